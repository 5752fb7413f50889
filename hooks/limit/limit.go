// Package limit has a ready-made hook that bounds how often clients connect, by
// address and by identity, and how often they may fail to prove who they are.
//
//	limiter, err := limit.New(limit.Options{
//		PerAddress:         limit.Rate{Count: 10, Period: time.Second, Burst: 100},
//		FailuresPerAddress: limit.Rate{Count: 10, Period: time.Minute},
//	})
//	...
//	petrel.Options{Hooks: []petrel.Hook{limiter, users}}
//
// How many connections there may be at one time is an option of the broker, as are
// the rates of what a client publishes; see [petrel.Options].
package limit

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/petrelmq/petrel"
	"github.com/petrelmq/petrel/packets"
)

// Rate says how often something may happen. The zero value means that it is not
// limited.
type Rate struct {
	Count  int           // how often, in each Period on average
	Period time.Duration // zero means a second
	Burst  int           // how often at once, after a time in which nothing happened; zero means Count
}

// Options configures a [Limiter].
type Options struct {
	// PerAddress bounds the connections that are opened from one address,
	// whatever becomes of them. What is above it is closed before it was read.
	PerAddress Rate

	// FailuresPerAddress bounds the CONNECTs from one address that are refused
	// because the client did not prove who it is: with 0x86, 0x87 or 0x8C, or
	// with 0x80 after a plain error of a hook. Above it no connection of the
	// address is served. Each further failure counts as well, of connections that
	// were open at the same time, but nobody waits longer than for ten bursts.
	FailuresPerAddress Rate

	// PerIdentity bounds how often clients of one identity connect, from wherever;
	// one above it is answered with 0x9F. Failures do not count, or anybody could
	// keep a user out; neither do clients without an identity.
	PerIdentity Rate

	// IPv4Prefix and IPv6Prefix are how many bits of an address count: all that
	// share them are one address. Zero means 32 and 64.
	IPv4Prefix int
	IPv6Prefix int

	// Exempt are the addresses that are not limited, such as those of a load
	// balancer that forwards without telling for whom. Connections by Unix
	// sockets and by pipes in memory have no address, and are never limited by it.
	Exempt []netip.Prefix

	// Places is the size of the tables: a multiple of how many addresses, or
	// identities, are above half of their rate at one time. In a table that is too
	// small some are refused that are below their rate; none is let in that is
	// above it. Each place takes 32 bytes for each of the three rates, and is
	// there from the start. Zero means 65,536.
	Places int
}

// withDefaults fills in every default.
func (o Options) withDefaults() Options {
	for _, r := range []*Rate{&o.PerAddress, &o.FailuresPerAddress, &o.PerIdentity} {
		if *r == (Rate{}) {
			continue
		}
		if r.Period == 0 {
			r.Period = time.Second
		}
		if r.Burst == 0 {
			r.Burst = r.Count
		}
	}
	for n, byDefault := range map[*int]int{&o.IPv4Prefix: 32, &o.IPv6Prefix: 64, &o.Places: 1 << 16} {
		if *n == 0 {
			*n = byDefault
		}
	}
	o.Exempt = slices.Clone(o.Exempt)
	return o
}

func (o Options) validate() error {
	if o.PerAddress == (Rate{}) && o.FailuresPerAddress == (Rate{}) && o.PerIdentity == (Rate{}) {
		return errors.New("limit: Options limit nothing")
	}
	for name, r := range map[string]Rate{"PerAddress": o.PerAddress, "FailuresPerAddress": o.FailuresPerAddress, "PerIdentity": o.PerIdentity} {
		switch {
		case r == (Rate{}):
		case r.Count <= 0 || r.Period < time.Duration(r.Count) || r.Burst <= 0:
			return fmt.Errorf("limit: Options.%s is %d in %v with bursts of %d; each must be above 0", name, r.Count, r.Period, r.Burst)
		case float64(r.Burst)*float64(r.Period)/float64(r.Count) > float64(maximumBurst):
			return fmt.Errorf("limit: Options.%s: a burst of %d takes longer than %v to come back", name, r.Burst, maximumBurst)
		}
	}
	switch {
	case o.IPv4Prefix < 0 || o.IPv4Prefix > 32:
		return fmt.Errorf("limit: Options.IPv4Prefix is %d; 1 to 32 is possible", o.IPv4Prefix)
	case o.IPv6Prefix < 0 || o.IPv6Prefix > 128:
		return fmt.Errorf("limit: Options.IPv6Prefix is %d; 1 to 128 is possible", o.IPv6Prefix)
	case o.Places < 0 || o.Places > 1<<28:
		return fmt.Errorf("limit: Options.Places is %d; 1 to %d is possible", o.Places, 1<<28)
	}
	for _, p := range o.Exempt {
		if !p.IsValid() {
			return fmt.Errorf("limit: Options.Exempt has %v, which is no prefix", p)
		}
	}
	return nil
}

// maximumBurst is the longest time that an emptied bucket may take to be full again.
const maximumBurst = 10 * 365 * 24 * time.Hour

var (
	_ petrel.ConnectionAuthorizer = (*Limiter)(nil)
	_ petrel.RefusalObserver      = (*Limiter)(nil)
)

// Limiter is a hook that refuses connections above a rate. It is asked about
// every connection of every listener. Make one with [New]; each broker needs one
// of its own, unless several are to be limited together.
//
// Its memory does not grow, and none of it is given to another address or
// identity: nobody can make it forget somebody by being many.
type Limiter struct {
	opts       Options
	seed       maphash.Seed
	connects   *buckets // nil without such a limit
	failures   *buckets
	identities *buckets
	refused    atomic.Uint64
}

// New makes a limiter. It refuses options that cannot be meant.
func New(o Options) (*Limiter, error) {
	o = o.withDefaults()
	if err := o.validate(); err != nil {
		return nil, err
	}
	return &Limiter{
		opts: o, seed: maphash.MakeSeed(), connects: newBuckets(o.PerAddress, o.Places),
		failures: newBuckets(o.FailuresPerAddress, o.Places), identities: newBuckets(o.PerIdentity, o.Places),
	}, nil
}

// Refused returns how many connections the limiter has refused.
func (l *Limiter) Refused() uint64 { return l.refused.Load() }

// AuthorizeConnection refuses a connection that is above a rate.
func (l *Limiter) AuthorizeConnection(_ context.Context, r *petrel.ConnectionRequest) error {
	switch r.Stage {
	case petrel.StageAccepted:
		prefix, limited := l.prefix(r.Peer.RemoteAddr)
		if !limited {
			return nil
		}
		key := hash(l.seed, prefix)
		switch {
		case l.failures != nil && !l.failures.has(key):
			return l.refuse("%v has failed too often", prefix)
		case l.connects != nil && !l.connects.take(key):
			return l.refuse("%v connects too often", prefix)
		}
	case petrel.StageAuthenticated:
		identity := r.Connect.Identity
		if l.identities != nil && identity != "" && !l.identities.take(hash(l.seed, identity)) {
			return l.refuse("%q connects too often", identity)
		}
	}
	return nil
}

func (l *Limiter) refuse(format string, who any) error {
	l.refused.Add(1)
	return &packets.Error{Code: packets.ConnectionRateExceeded, Detail: fmt.Sprintf(format, who)}
}

// ConnectionRefused counts a client that did not prove who it is.
func (l *Limiter) ConnectionRefused(r *petrel.RefusedConnection) {
	if l.failures == nil || !failed(r) {
		return
	}
	if prefix, limited := l.prefix(r.Peer.RemoteAddr); limited {
		l.failures.charge(hash(l.seed, prefix))
	}
}

// failed reports whether the client was refused for what it said, and not
// because it was not the time to decide.
func failed(r *petrel.RefusedConnection) bool {
	switch r.Reason {
	case packets.BadUserNameOrPassword, packets.NotAuthorized, packets.BadAuthenticationMethod:
		return true
	case packets.UnspecifiedError:
		return !errors.Is(r.Cause, context.DeadlineExceeded) && !errors.Is(r.Cause, context.Canceled)
	}
	return false
}

// prefix is what counts of an address, and whether it is limited. Addresses of
// which nothing is known are one.
func (l *Limiter) prefix(addr net.Addr) (p netip.Prefix, limited bool) {
	if addr == nil {
		return p, true
	}
	var ip netip.Addr
	switch a := addr.(type) {
	case *net.TCPAddr:
		ip = a.AddrPort().Addr()
	default:
		network := addr.Network()
		if network == "unix" || network == "pipe" {
			return p, false
		}
		if ap, err := netip.ParseAddrPort(addr.String()); err == nil && strings.HasPrefix(network, "tcp") {
			ip = ap.Addr() // the text of other networks may be the choice of the client
		}
	}
	ip = ip.Unmap().WithZone("")
	if slices.ContainsFunc(l.opts.Exempt, func(e netip.Prefix) bool { return e.Contains(ip) }) {
		return p, false
	}
	bits := l.opts.IPv6Prefix
	if ip.Is4() {
		bits = l.opts.IPv4Prefix
	}
	p, _ = ip.Prefix(bits) // the zero Prefix for what is no address
	return p, true
}
