"""What `up` refuses before it makes anything."""

import pytest

from testbed.cli.main import main
from testbed.kernel import features


@pytest.mark.parametrize(("mode", "feature"), [("ipvs", "ip_vs"), ("nftables", "nf_tables")])
def test_a_mode_that_the_kernel_cannot_do(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], mode: str, feature: str
) -> None:
    monkeypatch.setattr(features, "has", lambda name: name != feature)
    assert main(["up", "--proxy-mode", mode]) == 2
    words = capsys.readouterr().err
    assert words.startswith(f"testbed up: proxy mode {mode} needs {feature}, which this kernel lacks")
    assert len(words.splitlines()) == 1


def test_an_image_without_a_program(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["up", "--image", "nginx"]) == 2
    assert capsys.readouterr().err == "testbed up: --image 'nginx' is not GLOB=PATH\n"


def test_an_ipvs_scheduler_that_is_none(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["up", "--proxy-mode", "iptables", "--ipvs-scheduler", "best"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("testbed up: IPVS scheduler 'best' is unknown; choose one of rr, wrr, lc, wlc")
