package limit_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/petrelmq/petrel"
	"github.com/petrelmq/petrel/hooks/limit"
	"github.com/petrelmq/petrel/internal/brokertest"
	"github.com/petrelmq/petrel/packets"
)

func newLimiter(t testing.TB, o limit.Options) *limit.Limiter {
	t.Helper()
	l, err := limit.New(o)
	require.NoError(t, err)
	return l
}

func from(text string) net.Addr {
	return net.TCPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr(text), 40000))
}

// opens reports whether a connection from the address would be served.
func opens(l *limit.Limiter, addr net.Addr) bool {
	r := petrel.ConnectionRequest{Stage: petrel.StageAccepted, Peer: petrel.Peer{RemoteAddr: addr}}
	return l.AuthorizeConnection(context.Background(), &r) == nil
}

// enters reports whether a client with the identity would be let in.
func enters(l *limit.Limiter, identity string) bool {
	r := petrel.ConnectionRequest{Stage: petrel.StageAuthenticated, Connect: &petrel.ConnectRequest{Identity: identity}}
	return l.AuthorizeConnection(context.Background(), &r) == nil
}

// run counts how often in a row f reports true, 1,000 times at most.
func run(f func() bool) (n int) {
	for n < 1000 && f() {
		n++
	}
	return n
}

func TestPerAddress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLimiter(t, limit.Options{PerAddress: limit.Rate{Count: 2, Period: time.Second, Burst: 5}})
		a, b := from("203.0.113.1"), from("203.0.113.2")
		require.Equal(t, 5, run(func() bool { return opens(l, a) }))
		require.Equal(t, 5, run(func() bool { return opens(l, b) }), "another address")
		require.EqualValues(t, 2, l.Refused())
		time.Sleep(500*time.Millisecond - 1)
		require.False(t, opens(l, a))
		time.Sleep(time.Nanosecond)
		require.Equal(t, 1, run(func() bool { return opens(l, a) }))
		time.Sleep(time.Second)
		require.Equal(t, 2, run(func() bool { return opens(l, a) }))
		time.Sleep(time.Hour)
		require.Equal(t, 5, run(func() bool { return opens(l, a) }), "no more than a burst")
		require.True(t, enters(l, "u"), "identities are not limited")
	})
}

func TestPerIdentity(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLimiter(t, limit.Options{PerIdentity: limit.Rate{Count: 3}})
		require.Equal(t, 3, run(func() bool { return enters(l, "a") }))
		require.Equal(t, 3, run(func() bool { return enters(l, "b") }))
		require.Equal(t, 1000, run(func() bool { return enters(l, "") }), "nobody in particular")
		require.Equal(t, 1000, run(func() bool { return opens(l, from("203.0.113.1")) }))
		time.Sleep(time.Second)
		require.Equal(t, 3, run(func() bool { return enters(l, "a") }))
	})
}

func TestFailuresPerAddress(t *testing.T) {
	fail := func(l *limit.Limiter, reason packets.ReasonCode, cause error) {
		l.ConnectionRefused(&petrel.RefusedConnection{Peer: petrel.Peer{RemoteAddr: from("203.0.113.1")}, Reason: reason, Cause: cause})
	}
	for _, tt := range []struct {
		name   string
		reason packets.ReasonCode
		cause  error
		counts bool
	}{
		{"wrong password", packets.BadUserNameOrPassword, packets.BadUserNameOrPassword, true},
		{"not authorized", packets.NotAuthorized, packets.NotAuthorized, true},
		{"no such method", packets.BadAuthenticationMethod, packets.BadAuthenticationMethod, true},
		{"plain error of a hook", packets.UnspecifiedError, errors.New("no"), true},
		{"a hook that is late", packets.UnspecifiedError, fmt.Errorf("late: %w", context.DeadlineExceeded), false},
		{"the broker ends", packets.UnspecifiedError, context.Canceled, false},
		{"no CONNECT", packets.Success, errors.New("EOF"), false},
		{"a full broker", packets.QuotaExceeded, packets.QuotaExceeded, false},
		{"a busy one", packets.ServerBusy, packets.ServerBusy, false},
		{"its own refusal", packets.ConnectionRateExceeded, packets.ConnectionRateExceeded, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := newLimiter(t, limit.Options{FailuresPerAddress: limit.Rate{Count: 3, Period: time.Minute}})
				a := from("203.0.113.1")
				for range 2 {
					fail(l, tt.reason, tt.cause)
				}
				require.Equal(t, 1000, run(func() bool { return opens(l, a) }), "who has one left may go on")
				fail(l, tt.reason, tt.cause)
				require.Equal(t, !tt.counts, opens(l, a))
				require.True(t, opens(l, from("203.0.113.2")))
				time.Sleep(20 * time.Second)
				require.True(t, opens(l, a))
				for range 1000 {
					fail(l, tt.reason, tt.cause)
				}
				time.Sleep(10 * time.Minute)
				require.Equal(t, !tt.counts, opens(l, a), "debts")
				time.Sleep(20 * time.Second)
				require.True(t, opens(l, a), "have a bound")
			})
		})
	}
}

func TestWhatCountsOfAnAddress(t *testing.T) {
	exempt := []netip.Prefix{netip.MustParsePrefix("198.51.100.0/24"), netip.MustParsePrefix("2001:db8:ffff::/48")}
	for _, tt := range []struct {
		name   string
		o      limit.Options
		a, b   net.Addr
		shared bool // b is what a is
		free   bool // neither is limited
	}{
		{name: "one address", a: from("203.0.113.1"), b: from("203.0.113.1"), shared: true},
		{name: "two addresses", a: from("203.0.113.1"), b: from("203.0.113.2")},
		{name: "mapped to IPv6", a: from("203.0.113.1"), b: from("::ffff:203.0.113.1"), shared: true},
		{name: "of one network", o: limit.Options{IPv4Prefix: 24}, a: from("203.0.113.1"), b: from("203.0.113.2"), shared: true},
		{name: "of two networks", o: limit.Options{IPv4Prefix: 24}, a: from("203.0.113.1"), b: from("203.0.114.1")},
		{name: "IPv6, of one /64", a: from("2001:db8::1"), b: from("2001:db8::ffff:1"), shared: true},
		{name: "IPv6, of two", a: from("2001:db8::1"), b: from("2001:db8:0:1::1")},
		{name: "IPv6, whole addresses", o: limit.Options{IPv6Prefix: 128}, a: from("2001:db8::1"), b: from("2001:db8::2")},
		{name: "with zones", a: from("fe80::1%eth0"), b: from("fe80::1%eth1"), shared: true},
		{name: "text of TCP", a: text{"tcp", "203.0.113.1:1"}, b: from("203.0.113.1"), shared: true},
		{name: "text of the client's choice", a: text{"websocket", "203.0.113.1:1"}, b: text{"websocket", "203.0.113.2:1"}, shared: true},
		{name: "unknown", a: nil, b: text{"tcp", "?"}, shared: true},
		{name: "exempt", o: limit.Options{Exempt: exempt}, a: from("198.51.100.1"), b: from("2001:db8:ffff::1"), free: true},
		{name: "Unix sockets", a: &net.UnixAddr{Net: "unix"}, b: text{"pipe", "pipe"}, free: true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				tt.o.PerAddress = limit.Rate{Count: 1}
				l := newLimiter(t, tt.o)
				require.True(t, opens(l, tt.a))
				require.Equal(t, tt.free, opens(l, tt.a))
				require.Equal(t, !tt.shared, opens(l, tt.b))
			})
		})
	}
}

type text struct{ network, text string }

func (a text) Network() string { return a.network }
func (a text) String() string  { return a.text }

// Nobody is forgotten because many others come, and few others are in their way.
func TestManyAddresses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLimiter(t, limit.Options{PerAddress: limit.Rate{Count: 1, Period: time.Hour, Burst: 2}, Places: 1 << 12})
		attacker := from("203.0.113.1")
		require.Equal(t, 2, run(func() bool { return opens(l, attacker) }))
		other := func(i int) net.Addr {
			return &net.TCPAddr{IP: net.IPv4(10, byte(i>>16), byte(i>>8), byte(i)), Port: 1}
		}
		refused := 0
		for i := range 400 { // a tenth of the places
			if run(func() bool { return opens(l, other(i)) }) < 2 {
				refused++
			}
		}
		require.Less(t, refused, 5)
		for i := range 100_000 {
			opens(l, other(i))
			if i%1000 == 0 {
				require.False(t, opens(l, attacker))
			}
		}
		time.Sleep(2 * time.Hour) // and then it is as if nobody had come
		require.Equal(t, 2, run(func() bool { return opens(l, attacker) }))
		require.Equal(t, 2, run(func() bool { return opens(l, other(7)) }))
	})
}

func TestOptionsThatCannotBeMeant(t *testing.T) {
	one := limit.Rate{Count: 1}
	for _, tt := range []struct {
		o    limit.Options
		want string
	}{
		{limit.Options{}, "limit nothing"},
		{limit.Options{PerAddress: limit.Rate{Count: -1}}, "PerAddress"},
		{limit.Options{PerIdentity: limit.Rate{Burst: 1}}, "PerIdentity"},
		{limit.Options{FailuresPerAddress: limit.Rate{Count: 1, Period: -1}}, "FailuresPerAddress"},
		{limit.Options{PerAddress: limit.Rate{Count: 1, Burst: -1}}, "PerAddress"},
		{limit.Options{PerAddress: limit.Rate{Count: 2, Period: 1}}, "PerAddress"},
		{limit.Options{PerAddress: limit.Rate{Count: 1, Period: time.Hour, Burst: 1 << 40}}, "takes longer"},
		{limit.Options{PerAddress: one, IPv4Prefix: 33}, "IPv4Prefix"},
		{limit.Options{PerAddress: one, IPv6Prefix: 129}, "IPv6Prefix"},
		{limit.Options{PerAddress: one, IPv6Prefix: -1}, "IPv6Prefix"},
		{limit.Options{PerAddress: one, Places: -1}, "Places"},
		{limit.Options{PerAddress: one, Exempt: make([]netip.Prefix, 1)}, "Exempt"},
	} {
		l, err := limit.New(tt.o)
		require.ErrorContains(t, err, tt.want)
		require.True(t, strings.HasPrefix(err.Error(), "limit: "), err)
		require.Nil(t, l)
	}
	newLimiter(t, limit.Options{PerAddress: one, Places: 1})
}

// away is a connection that comes from elsewhere.
type away struct {
	net.Conn
	addr net.Addr
}

func (c away) RemoteAddr() net.Addr { return c.addr }

// A guesser is shut out, on the wire, and nobody else.
func TestGuesserIsShutOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLimiter(t, limit.Options{
			PerAddress: limit.Rate{Count: 100}, PerIdentity: limit.Rate{Count: 2, Period: time.Minute},
			FailuresPerAddress: limit.Rate{Count: 3, Period: time.Minute},
		})
		check := petrel.AuthenticatorFunc(func(_ context.Context, r *petrel.ConnectRequest) error {
			if string(r.Password) != "right" {
				return packets.BadUserNameOrPassword
			}
			return nil
		})
		b := brokertest.New(t, petrel.Options{Hooks: []petrel.Hook{l, check}})
		connect := func(addr, password string) (packets.ReasonCode, bool) {
			client, server := net.Pipe()
			go b.ServeConn(away{server, from(addr)})
			c := brokertest.NewClient(t, client, packets.V5)
			p := brokertest.ID("")
			p.HasUserName, p.UserName, p.HasPassword, p.Password = true, []byte("u"), true, []byte(password)
			c.Send(&p)
			defer synctest.Wait()
			defer client.Close()
			got, ok := c.Next()
			if !ok {
				return 0, false
			}
			return got.(*packets.Connack).Reason, true
		}
		for range 3 {
			code, answered := connect("203.0.113.1", "wrong")
			require.True(t, answered)
			require.Equal(t, packets.BadUserNameOrPassword, code)
		}
		_, answered := connect("203.0.113.1", "right")
		require.False(t, answered, "nothing is said")
		for range 2 {
			code, _ := connect("203.0.113.2", "right")
			require.Equal(t, packets.Success, code)
		}
		code, _ := connect("203.0.113.3", "right")
		require.Equal(t, packets.ConnectionRateExceeded, code, "too many of one identity")
		time.Sleep(time.Minute)
		code, _ = connect("203.0.113.1", "right")
		require.Equal(t, packets.Success, code)
		require.EqualValues(t, 2, l.Refused())
		require.NoError(t, b.Close())
	})
}
