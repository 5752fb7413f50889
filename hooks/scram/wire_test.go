package scram_test

import (
	"fmt"
	"log"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/petrelmq/petrel"
	"github.com/petrelmq/petrel/hooks/scram"
	"github.com/petrelmq/petrel/internal/brokertest"
	"github.com/petrelmq/petrel/packets"
)

const method = "SCRAM-SHA-256"

func auth(reason packets.ReasonCode, data string) *packets.Auth {
	return &packets.Auth{Reason: reason, HasAuthenticationMethod: true, AuthenticationMethod: []byte(method), HasAuthenticationData: true, AuthenticationData: []byte(data)}
}

func connect(first string) *packets.Connect {
	p := brokertest.ID("c")
	p.ReceiveMaximum = 65535
	p.HasAuthenticationMethod, p.AuthenticationMethod = true, []byte(method)
	p.HasAuthenticationData, p.AuthenticationData = true, []byte(first)
	return &p
}

// finish answers the AUTH of the broker, and returns what the broker has to answer to that.
func finish(t *testing.T, c *brokertest.Client, first, password string) (serverFinal string) {
	t.Helper()
	p := brokertest.Expect[*packets.Auth](c)
	require.Equal(t, packets.ContinueAuthentication, p.Reason)
	message, serverFinal := final(first, string(p.AuthenticationData), "n,,", password)
	c.Send(auth(packets.ContinueAuthentication, message))
	return serverFinal
}

func TestOnTheWire(t *testing.T) {
	const first = "n,,n=user,r=abcdefgh"
	b := brokertest.New(t, petrel.Options{Hooks: []petrel.Hook{newMethod(t, scram.Options{})}})
	c := b.Dial(packets.V5)
	c.Send(connect(first))
	want := finish(t, c, first, "pencil")
	ack := brokertest.Expect[*packets.Connack](c)
	require.Equal(t, packets.Success, ack.Reason)
	require.Equal(t, want, string(ack.AuthenticationData), "the broker proves that it knows the credential")
	for info := range b.Clients() {
		require.Equal(t, "user", info.Identity)
	}

	t.Run("proves itself again", func(t *testing.T) {
		for range 2 {
			c.Send(auth(packets.Reauthenticate, first))
			want := finish(t, c, first, "pencil")
			p := brokertest.Expect[*packets.Auth](c)
			require.Equal(t, []any{packets.Success, want}, []any{p.Reason, string(p.AuthenticationData)})
			c.ExpectNothing()
		}
	})
	t.Run("as somebody else", func(t *testing.T) {
		c.Send(auth(packets.Reauthenticate, "n,,n=a=2Cb=3Dc,r=abcdefgh"))
		c.ExpectDisconnect(packets.NotAuthorized)
	})
	for _, tt := range []struct{ name, first, password string }{
		{"the wrong password", first, "pencils"}, {"an unknown user", "n,,n=nobody,r=abcdefgh", "pencil"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := b.Dial(packets.V5)
			c.Send(connect(tt.first))
			finish(t, c, tt.first, tt.password)
			ack := brokertest.Expect[*packets.Connack](c)
			require.Equal(t, packets.NotAuthorized, ack.Reason)
			require.Empty(t, ack.ReasonString)
			c.ExpectClosed()
		})
	}
	t.Run("the wrong password again", func(t *testing.T) {
		c := b.Dial(packets.V5)
		c.Send(connect(first))
		finish(t, c, first, "pencil")
		require.Equal(t, packets.Success, brokertest.Expect[*packets.Connack](c).Reason)
		c.Send(auth(packets.Reauthenticate, first))
		finish(t, c, first, "pencils")
		c.ExpectDisconnect(packets.NotAuthorized)
	})
	t.Run("without the method nobody is admitted", func(t *testing.T) {
		for _, v := range []packets.Version{packets.V311, packets.V5} {
			for _, user := range []string{"", "user"} {
				p := packets.Connect{Version: v, ClientID: []byte("d"), CleanStart: true}
				if user != "" {
					p.HasUserName, p.UserName, p.HasPassword, p.Password = true, []byte(user), true, []byte("pencil")
				}
				_, ack := b.TryConnect(p)
				require.Equal(t, packets.NotAuthorized, ack.Reason)
			}
		}
	})
}

func Example() {
	credential, err := scram.NewCredential(petrel.Secret("pencil"), 0)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(credential) // Text has it all, for a File

	method, err := scram.New(scram.Options{Credentials: table{"user": credential}})
	if err != nil {
		log.Fatal(err)
	}
	broker, err := petrel.New(petrel.Options{Hooks: []petrel.Hook{method}})
	if err != nil {
		log.Fatal(err)
	}
	defer broker.Close()
	fmt.Println(method.AuthenticationMethods())
	// Output:
	// SCRAM-SHA-256$15000:***
	// [SCRAM-SHA-256]
}
