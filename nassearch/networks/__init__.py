"""Networks: the supernet and the plain subnets it holds."""

from nassearch.networks.cost import Cost as Cost
from nassearch.networks.cost import block_cost as block_cost
from nassearch.networks.cost import network_cost as network_cost
from nassearch.networks.subnet import Subnet as Subnet
from nassearch.networks.supernet import Supernet as Supernet
from nassearch.networks.weight_transfer import TransferReport as TransferReport
