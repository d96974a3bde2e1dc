import subprocess
import sys


def test_metrics_and_reports_need_no_torch():
    program = "import recsys.metrics, recsys.reports, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
