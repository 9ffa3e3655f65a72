"""Networks: the supernet and the plain subnets it holds."""

from nassearch.networks.growth import Growth as Growth
from nassearch.networks.subnet import Cost as Cost
from nassearch.networks.subnet import Subnet as Subnet
from nassearch.networks.subnet import cost as cost
from nassearch.networks.supernet import Supernet as Supernet
