"""Without Redis one data folder serves one gateway."""

from collections.abc import Callable

from tests.conftest import Gateway


def test_p09_a_second_gateway_on_the_same_folder_is_refused_with_the_reason(
    new_gateway: Callable[..., Gateway],
) -> None:
    gateway = new_gateway()

    second = gateway.manage("start", "--port", "0", check=False)

    assert second.returncode == 1
    assert "Another gateway runs on the data folder" in second.stderr
    assert "Traceback" not in second.stderr
    with gateway.client() as client:
        assert client.get("/healthz").status_code == 200
