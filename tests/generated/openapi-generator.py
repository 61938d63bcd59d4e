"""The client of OpenAPI Generator."""

import sys

from generated import ApiClient, ApiException, Configuration, OnlineApi, UsersApi
from generated.models import ConnectBody, DisconnectBody, LookupBody

base, key = sys.argv[1:]

with ApiClient(Configuration(host=base, access_token=key)) as client:
    users, online = UsersApi(client), OnlineApi(client)
    connected = users.connect("alice", ConnectBody(connection_id="phone-1"))
    assert connected.became_online and connected.ping_interval_ms == 25_000, connected
    assert not users.connect("alice").became_online
    pinged = users.ping("alice", ConnectBody(connection_id="phone-1"))
    assert pinged.online and not pinged.became_online, pinged

    alice = users.get_user("alice")
    assert alice.online and alice.last_seen_at is not None, alice
    assert [each.connection_id for each in alice.connections] == ["1", "phone-1"], alice
    assert online.look_up_online(LookupBody(user_ids=["bob", "alice"])).online == ["alice"]
    page = online.list_online(limit=10)
    assert page.online == ["alice"] and page.next_cursor is None, page
    assert online.count_online().count == 1

    one = users.disconnect("alice", DisconnectBody(connection_id="phone-1"))
    assert one.online and not one.became_offline and one.connection_id == "phone-1", one
    everything = users.disconnect("alice", DisconnectBody(all=True))
    assert everything.became_offline and everything.connection_id is None, everything

    try:
        raise AssertionError(online.list_online(cursor="nonsense"))
    except ApiException as refused:
        assert refused.status == 400, refused
        assert refused.data.type == "urn:presence:problem:invalid-cursor", refused
