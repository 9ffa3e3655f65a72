"""Peak memory: what a network holds at once."""

from nassearch.networks.activation_memory import peak_activation_bytes, peak_memory_bytes
from nassearch.networks.cost import network_cost
from nassearch.space import BlockSpec, SearchSpace, lower

CONV = BlockSpec("conv", 3, 8, 16, 2, (("kernel_size", 3), ("activation", "relu")))
MBCONV = BlockSpec("mbconv", 8, 8, 8, 1, (("kernel_size", 3), ("expand_ratio", 4)))


def test_a_convolution_holds_its_input_and_its_output() -> None:
    assert peak_activation_bytes([CONV]) == 4 * (3 * 16 * 16 + 8 * 8 * 8)


def test_a_residual_block_holds_its_input_while_its_middle_runs() -> None:
    # the depthwise convolution reads and writes 32 channels while the 8 of the input wait
    assert peak_activation_bytes([MBCONV]) == 4 * 8 * 8 * (8 + 32 + 32)


def test_the_peak_is_the_largest_of_the_blocks_and_grows_with_the_batch() -> None:
    peak = peak_activation_bytes([CONV, MBCONV])
    assert peak == max(peak_activation_bytes([CONV]), peak_activation_bytes([MBCONV]))
    assert peak_activation_bytes([CONV, MBCONV], batch=4) == 4 * peak
    assert peak_activation_bytes([CONV, MBCONV], size=1) * 4 == peak


def test_weights_come_on_top(space: SearchSpace) -> None:
    specs = lower(space, space.largest)
    weights = network_cost(specs).weight_bytes
    assert peak_memory_bytes(specs) == weights + peak_activation_bytes(specs)
