import pytest

from hwcli.processor import short_cpu_name


@pytest.mark.parametrize(
    ("name", "short"),
    [
        ("AMD EPYC (avx2, avx512_bf16, avx512f)", "AMD EPYC with AVX512-BF16"),
        ("Intel(R) Xeon(R) Processor (avx2)", "Intel(R) Xeon(R) Processor with AVX2"),
        ("Common KVM processor ()", "Common KVM processor"),
        ("arm64", "arm64"),
    ],
)
def test_a_processor_is_named_with_its_widest_vectors(name: str, short: str) -> None:
    assert short_cpu_name(name) == short
