"""What the kernel's refusal of a policy's rules is called."""

from __future__ import annotations

import pytest
from pytest_mock import MockerFixture

from cni_macvlan_egress.attach import enforcer
from cni_macvlan_egress.decide.enforced import Change
from cni_macvlan_egress.protocol.errors import KERNEL_REFUSED, CniError

from ..refusals import refused


def test_kernel_without_the_hook_is_named_as_such(mocker: MockerFixture) -> None:
    said = "cannot do it: nftables: Could not process rule: Operation not supported"
    nftables = mocker.Mock(run=mocker.Mock(side_effect=CniError(KERNEL_REFUSED, said, "in nft's words")))
    with refused(KERNEL_REFUSED, "no nftables hook", "CONFIG_NETFILTER_EGRESS", "'policy'", "in nft's words"):
        enforcer._run(nftables, Change(switch="add table netdev x"))


@pytest.mark.parametrize("said", ["No such file or directory", "Operation not permitted"])
def test_other_refusals_stay_as_they_are(mocker: MockerFixture, said: str) -> None:
    nftables = mocker.Mock(run=mocker.Mock(side_effect=CniError(KERNEL_REFUSED, said)))
    with pytest.raises(CniError) as caught:
        enforcer._run(nftables, Change(switch="add table netdev x"))
    assert caught.value.msg == said
