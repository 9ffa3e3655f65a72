"""Search spaces and architectures: pure Python, without torch."""

from nassearch.space.architecture import Architecture as Architecture
from nassearch.space.architecture import Block as Block
from nassearch.space.architecture import BlockSpec as BlockSpec
from nassearch.space.architecture import PatchSchedule as PatchSchedule
from nassearch.space.architecture import Stage as Stage
from nassearch.space.lowering import Slot as Slot
from nassearch.space.lowering import block_specs as block_specs
from nassearch.space.lowering import lower as lower
from nassearch.space.lowering import slots as slots
from nassearch.space.published_network import PublishedNetwork as PublishedNetwork
from nassearch.space.published_network import is_published_network as is_published_network
from nassearch.space.published_network import list_published_networks as list_published_networks
from nassearch.space.published_network import load_published_network as load_published_network
from nassearch.space.search_space import SearchSpace as SearchSpace
