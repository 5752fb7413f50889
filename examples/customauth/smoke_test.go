package main

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/petrelmq/petrel/examples/internal/smoke"
	"github.com/petrelmq/petrel/packets"
)

func login(name, password string) packets.Connect {
	return packets.Connect{
		ClientID: []byte("client of " + name), HasUserName: true, UserName: []byte(name), HasPassword: true, Password: []byte(password),
	}
}

func TestUsersHaveTheirOwnTopics(t *testing.T) {
	addr := smoke.Start(t, `listening on (\S+)`, "-listen", "127.0.0.1:0")[0]

	_, ack := smoke.TryConnect(t, addr, login("anna", "guessed"))
	require.Equal(t, packets.BadUserNameOrPassword, ack.Reason)
	_, ack = smoke.TryConnect(t, addr, login("nobody", ""))
	require.Equal(t, packets.BadUserNameOrPassword, ack.Reason)

	root := smoke.Connect(t, addr, login("root", "secret of root"))
	root.Subscribe(0, "#")
	anna := smoke.Connect(t, addr, login("anna", "secret of anna"))
	require.Equal(t, packets.NotAuthorized, anna.PublishWith(packets.Publish{Topic: []byte("users/root/door"), QoS: 1}))
	anna.Publish("users/anna/lamp", "on", 1)
	root.ExpectPublish("users/anna/lamp", "on")
	codes := anna.SubscribeWith(packets.Subscribe{Subscriptions: packets.Subscriptions(nil).
		Append(packets.Subscription{Filter: []byte("users/anna/#")}).
		Append(packets.Subscription{Filter: []byte("#")})})
	require.Equal(t, []packets.ReasonCode{packets.GrantedQoS0, packets.NotAuthorized}, codes)
}
