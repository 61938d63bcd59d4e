"""The client of openapi-python-client."""

import sys

from generated import AuthenticatedClient
from generated.api.online import count_online, list_online, look_up_online
from generated.api.users import connect, disconnect, get_user, ping
from generated.models import ConnectBody, DisconnectBody, LookupBody

base, key = sys.argv[1:]

with AuthenticatedClient(base_url=base, token=key) as client:
    phone = ConnectBody(connection_id="phone-1")
    connected = connect.sync("alice", client=client, body=phone)
    assert connected.became_online and connected.ping_interval_ms == 25_000, connected
    assert not connect.sync("alice", client=client).became_online
    pinged = ping.sync("alice", client=client, body=phone)
    assert pinged.online and not pinged.became_online, pinged

    alice = get_user.sync("alice", client=client)
    assert alice.online and alice.last_seen_at is not None, alice
    assert [each.connection_id for each in alice.connections] == ["1", "phone-1"], alice
    found = look_up_online.sync(client=client, body=LookupBody(user_ids=["bob", "alice"]))
    assert found.online == ["alice"], found
    page = list_online.sync(client=client, limit=10)
    assert page.online == ["alice"] and page.next_cursor is None, page
    assert count_online.sync(client=client).count == 1

    one = disconnect.sync("alice", client=client, body=DisconnectBody(connection_id="phone-1"))
    assert one.online and not one.became_offline and one.connection_id == "phone-1", one
    everything = disconnect.sync("alice", client=client, body=DisconnectBody(all_=True))
    assert everything.became_offline and everything.connection_id is None, everything

    problem = list_online.sync(client=client, cursor="nonsense")
    assert problem.status == 400, problem
    assert problem.type_ == "urn:presence:problem:invalid-cursor", problem
