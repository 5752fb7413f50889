package petreltest_test

import (
	"context"
	"io"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/petrelmq/petrel"
	"github.com/petrelmq/petrel/internal/brokertest"
	"github.com/petrelmq/petrel/packets"
	"github.com/petrelmq/petrel/petreltest"
)

// readOnly is an Authorizer that lets nobody publish.
type readOnly struct{}

func (readOnly) Authorize(_ context.Context, r *petrel.AccessRequest) error {
	if r.Action == petrel.Publish {
		return packets.NotAuthorized
	}
	return nil
}

// A program that connects again works on after a restart.
func TestRestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := petreltest.StartInMemory(t)
		connected := make(chan int)
		ctx, cancel := context.WithCancel(t.Context())
		go func() {
			connected <- thermostat(ctx, func() (net.Conn, error) { return b.Dial(), nil })
		}()
		b.Publish("home/temp", "17.5")
		require.Equal(t, "ON", b.WaitFor("home/heater/set").String())
		before := b.Broker()
		b.Restart()
		require.NotSame(t, before, b.Broker())
		b.Publish("home/temp", "18.5")
		require.Equal(t, "OFF", b.WaitFor("home/heater/set").String())
		require.Equal(t, []string{"17.5", "ON", "18.5", "OFF"}, payloads(b.Messages("#")))
		cancel()
		require.Equal(t, 2, <-connected)
	})
}

func TestRestartKeepsThePorts(t *testing.T) {
	b := petreltest.Start(t)
	addresses := []string{b.URL, b.TLSURL, b.WSURL, ""}
	for i := range 3 {
		for _, address := range addresses {
			c := connect(t, dial(t, b, address), packets.Connect{Version: packets.V311, ClientID: []byte("x"), CleanStart: true})
			c.Publish("a", address, packets.AtLeastOnce)
			c.Close()
		}
		require.Len(t, b.Messages("a"), 4*(i+1))
		b.Restart()
		require.Equal(t, addresses[:3], []string{b.URL, b.TLSURL, b.WSURL})
	}
}

func TestRestartEndsWhatThereWas(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := petreltest.StartInMemory(t)
		c := connect(t, b.Dial(), brokertest.Durable("x"))
		c.PublishWith(packets.Publish{Topic: []byte("state"), Payload: []byte("on"), Retain: true})
		c.Subscribe(packets.AtMostOnce, "#")
		c.ExpectPublish("state", "on")
		b.Restart()
		c.ExpectDisconnect(packets.ServerShuttingDown)
		c, ack := tryConnect(t, b.Dial(), brokertest.Durable("x"))
		require.False(t, ack.SessionPresent)
		c.Subscribe(packets.AtMostOnce, "state")
		c.ExpectNothing() // retained
	})
}

// Who connects while the broker restarts is served by the new one.
func TestConnectWhileRestarting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := petreltest.StartInMemory(t)
		unread := brokertest.NewClient(t, b.Dial(), packets.V5)
		p := brokertest.ID("slow")
		unread.Send(&p)
		brokertest.Expect[*packets.Connack](unread)
		unread.Stall() // so that the shutdown takes a second
		unread.Send(&packets.Pingreq{})
		synctest.Wait()
		answer := make(chan packets.ReasonCode)
		go func() {
			time.Sleep(time.Millisecond)
			_, ack := tryConnect(t, b.Dial(), brokertest.ID("quick"))
			answer <- ack.Reason
		}()
		start := time.Now()
		b.Restart()
		require.Equal(t, packets.Success, <-answer)
		require.Greater(t, time.Since(start), 500*time.Millisecond, "the restart was not there to be met")
	})
}

func TestRestartWithAHookThatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hook := sleeper{make(chan struct{})}
		failures := run(func(fake testing.TB) {
			b := petreltest.StartInMemory(fake, petrel.Options{Hooks: []petrel.Hook{hook}, HookTimeout: -1})
			p := brokertest.ID("x")
			brokertest.NewClient(t, b.Dial(), packets.V5).Send(&p)
			synctest.Wait()
			go func() {
				time.Sleep(time.Second)
				b.Dial() // and has to wait
			}()
			b.Restart()
			fake.Error("it went on")
		})
		require.Len(t, failures, 2, "of Restart, and of the end")
		for _, f := range failures {
			require.Contains(t, f, "petrel: shutdown")
		}
		close(hook.wake)
		synctest.Wait()
	})
}

func TestRefuse(t *testing.T) {
	nod := brokertest.ID("x")
	nod.HasAuthenticationMethod, nod.AuthenticationMethod = true, []byte("nod")
	for _, tt := range []struct {
		name string
		p    packets.Connect
	}{
		{"3.1", packets.Connect{Version: packets.V31, ClientID: []byte("x"), CleanStart: true}},
		{"3.1.1", packets.Connect{Version: packets.V311, ClientID: []byte("x"), CleanStart: true}},
		{"5.0", brokertest.ID("x")},
		{"5.0 with enhanced authentication", nod},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := petreltest.StartInMemory(t, petrel.Options{Hooks: []petrel.Hook{handshake{}, new(peers)}})
				b.Refuse(2)
				for range 2 {
					c, ack := tryConnect(t, b.Dial(), tt.p)
					require.Equal(t, packets.ServerUnavailable, ack.Reason)
					c.ExpectClosed()
				}
				connect(t, b.Dial(), tt.p)
			})
		})
	}
}

func TestRefuseTakesTheLastWord(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := petreltest.StartInMemory(t)
		b.Refuse(5)
		b.Refuse(0)
		connect(t, b.Dial(), brokertest.ID("x"))
		b.Refuse(1)
		_, ack := tryConnect(t, b.Dial(), brokertest.ID("x"))
		require.Equal(t, packets.ServerUnavailable, ack.Reason)
		connect(t, b.Dial(), brokertest.ID("x"))
	})
}

// The refusal arrives on every transport, also if the client sends more at once.
func TestRefuseOnSockets(t *testing.T) {
	b := petreltest.Start(t)
	for name, address := range map[string]string{"mqtt": b.URL, "mqtts": b.TLSURL, "websocket": b.WSURL} {
		t.Run(name, func(t *testing.T) {
			b.Refuse(1)
			c := brokertest.NewClient(t, dial(t, b, address), packets.V5)
			p := brokertest.ID("x")
			c.Send(&p, &packets.Pingreq{})
			require.Equal(t, packets.ServerUnavailable, brokertest.Expect[*packets.Connack](c).Reason)
			c.ExpectClosed()
			connect(t, dial(t, b, address), brokertest.ID("x"))
		})
	}
}

func TestRefuseWhatIsNoConnect(t *testing.T) {
	for _, tt := range []struct {
		name  string
		bytes string
		after time.Duration // until it is closed
	}{
		{"another packet", "\xC0\x00", 0},
		{"no packet", "\x00\x00", 0},
		{"a CONNECT without an end", "\x10\x20\x00\x04MQTT", 5 * time.Second},
		{"a CONNECT without measure", "\x10\xFF\xFF\xFF\x7F", 0},
		{"a malformed CONNECT", "\x10\x02\x00\x04", 0},
		{"nothing", "", 5 * time.Second},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := petreltest.StartInMemory(t)
				b.Refuse(1)
				start := time.Now()
				conn := b.Dial()
				go io.WriteString(conn, tt.bytes)
				answer, _ := io.ReadAll(conn)
				require.Empty(t, answer)
				require.Equal(t, tt.after, time.Since(start))
			})
		})
	}
}

// A program that is refused tries again.
func TestRefuseAProgram(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := petreltest.StartInMemory(t)
		b.Refuse(3)
		start := time.Now()
		go thermostat(t.Context(), func() (net.Conn, error) { return b.Dial(), nil })
		b.Publish("home/temp", "17.5")
		b.WaitFor("home/heater/set")
		require.Equal(t, 3*time.Second, time.Since(start), "when it was accepted")
	})
}

func TestStall(t *testing.T) {
	b := petreltest.Start(t)
	other := connect(t, b.Dial(), brokertest.ID("other"))
	for name, address := range map[string]string{"mqtt": b.URL, "mqtts": b.TLSURL, "websocket": b.WSURL, "memory": ""} {
		t.Run(name, func(t *testing.T) {
			c := connect(t, dial(t, b, address), brokertest.ID(name))
			c.Subscribe(packets.AtLeastOnce, "to/"+name)
			b.Stall(name)
			sent := make(chan struct{})
			go func() {
				defer close(sent)
				c.Send(&packets.Publish{Topic: []byte("from/" + name), Payload: []byte("1")})
			}()
			b.Publish("to/"+name, "1")
			for range 3 { // round trips of somebody else
				other.Publish("from/other", "1", packets.AtLeastOnce)
			}
			require.Empty(t, b.Messages("from/"+name), "the broker read")
			b.Resume(name)
			<-sent
			b.WaitFor("from/" + name)
			c.Accept(c.ExpectPublish("to/"+name, "1"))
			c.ExpectNothing()
		})
	}
}

func TestStallInBubble(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := petreltest.StartInMemory(t)
		c := connect(t, b.Dial(), brokertest.ID("x"))
		other := connect(t, b.Dial(), brokertest.ID("other"))
		c.Subscribe(packets.AtLeastOnce, "a")
		other.Subscribe(packets.AtLeastOnce, "a")

		b.Stall("x")
		b.Publish("a", "1")
		go c.Send(&packets.Pingreq{}, &packets.Publish{Topic: []byte("b"), Payload: []byte("1")})
		other.Accept(other.ExpectPublish("a", "1"))
		time.Sleep(5 * time.Second) // c sends for at most 10
		require.Empty(t, b.Messages("b"), "the broker read")

		start := time.Now()
		time.AfterFunc(time.Second, func() { b.Resume("x") })
		first := c.Receive() // the two may come in any order
		require.Equal(t, time.Second, time.Since(start), "the broker wrote")
		second := c.Receive()
		if _, ok := first.(*packets.Publish); !ok {
			first, second = second, first
		}
		require.Equal(t, "1", string(first.(*packets.Publish).Payload))
		require.IsType(t, new(packets.Pingresp), second)
		require.Equal(t, "1", b.WaitFor("b").String())
		c.ExpectNothing()
	})
}

// A stall goes for connections to come, and for all of them.
func TestStallBeforeConnect(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := petreltest.StartInMemory(t)
		b.Stall("x")
		connect(t, b.Dial(), brokertest.ID("y"))
		start := time.Now()
		first := brokertest.NewClient(t, b.Dial(), packets.V5)
		p := brokertest.ID("x")
		first.Send(&p)
		time.AfterFunc(3*time.Second, b.Restart)
		first.ExpectClosed() // and it was told nothing
		require.Equal(t, 4*time.Second, time.Since(start), "a second was left for the last words")

		second := brokertest.NewClient(t, b.Dial(), packets.V5)
		second.Send(&p)
		time.AfterFunc(time.Second, func() { b.Resume("x") })
		require.Equal(t, packets.Success, brokertest.Expect[*packets.Connack](second).Reason)
		require.Equal(t, 5*time.Second, time.Since(start))
		second.ExpectNothing()
	})
}

func TestStallAndKeepAlive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := petreltest.StartInMemory(t)
		p := brokertest.ID("x")
		p.KeepAlive = 2
		p.HasWill, p.Will = true, packets.Will{Topic: []byte("gone"), Payload: []byte("x")}
		c := connect(t, b.Dial(), p)
		b.Stall("x")
		start := time.Now()
		go c.Send(&packets.Pingreq{})
		b.WaitFor("gone")
		require.Equal(t, 3*time.Second, time.Since(start), "1.5 times the Keep Alive")
		c.ExpectClosed()
	})
}

func TestStallAndTakeover(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := petreltest.StartInMemory(t)
		first := connect(t, b.Dial(), brokertest.ID("x"))
		b.Stall("x")
		second := brokertest.NewClient(t, b.Dial(), packets.V5)
		p := brokertest.ID("x")
		second.Send(&p)
		first.ExpectClosed()
		b.Resume("x")
		require.Equal(t, packets.Success, brokertest.Expect[*packets.Connack](second).Reason)
		second.ExpectNothing()
	})
}

func TestResumeOfNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := petreltest.StartInMemory(t)
		b.Resume("x")
		connect(t, b.Dial(), brokertest.ID("x")).ExpectNothing()
	})
}

func TestKick(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := petreltest.StartInMemory(t)
		p := brokertest.ID("x")
		p.HasWill, p.Will = true, packets.Will{Topic: []byte("gone"), Payload: []byte("x")}
		c := connect(t, b.Dial(), p)
		b.Kick("x")
		require.Equal(t, []string{"x"}, payloads(b.Messages("gone")), "the will")
		for range b.Broker().Clients() {
			t.Error("the session is still there")
		}
		c.ExpectDisconnect(packets.AdministrativeAction)
		connect(t, b.Dial(), p)
	})
}

func TestKickWaitsForTheClient(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := petreltest.StartInMemory(t)
		start := time.Now()
		kicked := make(chan struct{})
		go func() {
			defer close(kicked)
			time.Sleep(time.Second)
			connect(t, b.Dial(), brokertest.ID("x")).ExpectDisconnect(packets.AdministrativeAction)
		}()
		b.Kick("x")
		require.Equal(t, time.Second, time.Since(start))
		<-kicked
	})
}

func TestKickOfNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		failures := run(func(fake testing.TB) {
			b := petreltest.StartInMemory(fake)
			connect(t, b.Dial(), brokertest.ID("y"))
			connect(t, b.Dial(), brokertest.ID("z")).Close()
			b.Kick("x")
		})
		require.Equal(t, []string{`petreltest: client "x" has not connected within 5s; connected: ["y"]`}, failures)
		require.Equal(t, 5*time.Second, time.Since(start))
	})
}

func TestKickOfAStalledClient(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := petreltest.StartInMemory(t)
		c := connect(t, b.Dial(), brokertest.ID("x"))
		b.Stall("x")
		b.Kick("x")
		c.ExpectClosed()
	})
}

// A program that is kicked out comes back, and is served as before.
func TestKickAProgram(t *testing.T) {
	b := petreltest.Start(t)
	ended := make(chan int, 1)
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		ended <- thermostat(ctx, func() (net.Conn, error) { return net.Dial("tcp", strings.TrimPrefix(b.URL, "mqtt://")) })
	}()
	b.Publish("home/temp", "17.5")
	require.Equal(t, "ON", b.WaitFor("home/heater/set").String())
	b.Kick("thermostat")
	b.Publish("home/temp", "20")
	require.Equal(t, "OFF", b.WaitFor("home/heater/set").String())
	cancel()
	require.Equal(t, 2, <-ended)
}
