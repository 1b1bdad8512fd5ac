"""A key works from the moment its secret is printed, whatever process made it."""

from collections.abc import Callable

from tests.conftest import Gateway

MODELS = "/v1/models"


def test_a_key_made_by_another_process_works_at_once(
    new_gateway: Callable[..., Gateway],
) -> None:
    gateway = new_gateway("--require-keys")
    with gateway.client() as client:
        for number in range(3):
            secret = gateway.manage("create-key", f"new {number}").stdout.strip()
            answer = client.get(MODELS, headers={"Authorization": f"Bearer {secret}"})
            assert answer.status_code == 200

        unknown = client.get(MODELS, headers={"Authorization": "Bearer cgw_" + "x" * 43})
        assert unknown.status_code == 401
