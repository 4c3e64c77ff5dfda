"""The load generator connects by TLS to a broker whose certificate it can check, and to no other."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from tests.server.broker_process import installed_command
from tests.server.secure import Authority, SecureBroker


def run(broker: SecureBroker, trusted: Path) -> subprocess.CompletedProcess[str]:
    uri = f"amqps://guest:guest@localhost:{broker.port}"
    return subprocess.run(
        [*installed_command(), "perf", "-h", uri, "-u", "q", "-a", "-z", "1"],
        env=os.environ | {"SSL_CERT_FILE": str(trusted)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_the_authority_is_that_of_the_environment(tmp_path: Path) -> None:
    authority = Authority(tmp_path / "tls")
    with SecureBroker(tmp_path / "broker", authority) as broker:
        run_by_tls = run(broker, authority.file)
        assert run_by_tls.returncode == 0, run_by_tls.stderr
        distrusting = run(broker, Authority(tmp_path / "other").file)
        assert distrusting.returncode == 1
        assert "CERTIFICATE_VERIFY_FAILED" in distrusting.stderr + distrusting.stdout
