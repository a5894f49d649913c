"""What a worker process of the sweep holds."""

import subprocess
import sys


def test_a_worker_imports_no_plotting_and_no_statistics() -> None:
    code = "import sys, hwcli.vision.worker; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = {name.partition(".")[0] for name in done.stdout.split()}
    assert "torch" in loaded
    assert not loaded & {"matplotlib", "scipy", "pandas", "pyarrow", "datasets", "sklearn"}
