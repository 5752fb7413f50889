package hostile

import (
	"fmt"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/petrelmq/petrel/packets"
)

var errTimeout = os.ErrDeadlineExceeded

// pair is a publisher and a subscriber that behave well: message after message, in
// each QoS in turn, each waited for before the next.
type pair struct {
	count    atomic.Int64
	pub, sub net.Conn
	stop     chan struct{}
	done     chan struct{}

	mu  sync.Mutex
	err error
}

func (a *arena) newPair() *pair {
	p := &pair{stop: make(chan struct{}), done: make(chan struct{})}
	for i, conn := range []*net.Conn{&p.pub, &p.sub} {
		c, err := a.open()
		if err != nil {
			a.t.Fatal(err)
		}
		*conn = c
		if err := p.say(c, &packets.Connect{Version: packets.V5, CleanStart: true, ClientID: fmt.Append(nil, "good ", i)}); err != nil {
			a.t.Fatal(err)
		}
		if _, err := hear[*packets.Connack](p, c); err != nil {
			a.t.Fatal(err)
		}
	}
	subscribe := packets.Subscribe{PacketID: 1, Subscriptions: packets.Subscriptions(nil).Append(packets.Subscription{Filter: []byte("good"), QoS: 2})}
	if err := p.say(p.sub, &subscribe); err != nil {
		a.t.Fatal(err)
	}
	if _, err := hear[*packets.Suback](p, p.sub); err != nil {
		a.t.Fatal(err)
	}
	go func() {
		defer close(p.done)
		for n := int64(0); ; n++ {
			select {
			case <-p.stop:
				return
			default:
			}
			if err := p.exchange(n); err != nil {
				p.mu.Lock()
				p.err = fmt.Errorf("message %d: %w", n, err)
				p.mu.Unlock()
				return
			}
			p.count.Add(1)
		}
	}()
	return p
}

func (p *pair) broken() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.err
}

// end lets the pair finish its message and disconnect.
func (p *pair) end() {
	close(p.stop)
	<-p.done
	p.pub.Close()
	p.sub.Close()
}

// exchange takes one message from the publisher to the subscriber, and all that
// belongs to it.
func (p *pair) exchange(n int64) error {
	m := packets.Publish{Topic: []byte("good"), Payload: fmt.Append(nil, n), QoS: packets.QoS(n % 3)}
	if m.QoS > 0 {
		m.PacketID = uint16(n%60000) + 1
	}
	if err := p.say(p.pub, &m); err != nil {
		return err
	}
	got, err := hear[*packets.Publish](p, p.sub)
	if err != nil {
		return err
	}
	if string(got.Payload) != string(m.Payload) || got.QoS != m.QoS || got.Dup {
		return fmt.Errorf("got %q with %v, DUP %v; want %q with %v", got.Payload, got.QoS, got.Dup, m.Payload, m.QoS)
	}
	switch m.QoS {
	case packets.AtLeastOnce:
		if err := p.say(p.sub, &packets.Puback{PacketID: got.PacketID}); err != nil {
			return err
		}
		_, err = hear[*packets.Puback](p, p.pub)
	case packets.ExactlyOnce:
		if err = p.handshake(p.sub, p.pub, got.PacketID, m.PacketID); err != nil {
			return err
		}
	}
	return err
}

// handshake finishes a QoS 2 message on both sides.
func (p *pair) handshake(sub, pub net.Conn, received, published uint16) error {
	if err := p.say(sub, &packets.Pubrec{PacketID: received}); err != nil {
		return err
	}
	if _, err := hear[*packets.Pubrel](p, sub); err != nil {
		return err
	}
	if err := p.say(sub, &packets.Pubcomp{PacketID: received}); err != nil {
		return err
	}
	if _, err := hear[*packets.Pubrec](p, pub); err != nil {
		return err
	}
	if err := p.say(pub, &packets.Pubrel{PacketID: published}); err != nil {
		return err
	}
	_, err := hear[*packets.Pubcomp](p, pub)
	return err
}

func (p *pair) say(conn net.Conn, packet packets.Packet) error {
	_ = conn.SetWriteDeadline(time.Now().Add(patience))
	_, err := conn.Write(encode(packet))
	return err
}

func hear[P packets.Packet](_ *pair, conn net.Conn) (want P, err error) {
	_ = conn.SetReadDeadline(time.Now().Add(patience))
	got, err := readPacket(conn)
	if err != nil {
		return want, fmt.Errorf("waiting for %T: %w", want, err)
	}
	p, ok := got.(P)
	if !ok {
		return want, fmt.Errorf("got %v %+v; want %T", got.Type(), got, want)
	}
	return p, nil
}
