package hostile

import (
	"bytes"
	"fmt"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/petrelmq/petrel/packets"
)

// peer is one connection of a client, as the client sees it.
type peer struct {
	conn    net.Conn
	version packets.Version
	owner   *account // nil until CONNACK
	window  int      // QoS 1 and 2 messages that the broker may have open
	most    int      // Maximum Packet Size, 0 for none
	aliases bool     // the broker may use topic aliases
	prompt  bool     // it acknowledges at once
	gone    bool     // the broker has to have ended it
	taken   bool     // because another connection has its session
	silent  bool     // because its keep alive has ended

	keepAlive time.Duration // 0 for none
	heard     time.Time     // of the last packet that it sent
	reason    packets.ReasonCode

	unanswered []*due // what came, of a prompt client

	wants   []answer          // what the broker still has to answer, in order
	learned map[uint16]string // topic aliases of the broker
	told    map[uint16]string // topic aliases of the client

	mu      sync.Mutex
	inbox   []packets.Packet
	largest int   // size of the largest that came
	err     error // why nothing more comes
}

// answer is a packet that the broker owes.
type answer struct {
	kind  packets.Type
	id    uint16
	codes []packets.ReasonCode
}

func (a answer) String() string { return fmt.Sprintf("%v %d %v", a.kind, a.id, a.codes) }

func newPeer(conn net.Conn, v packets.Version) *peer {
	p := &peer{conn: conn, version: v, learned: make(map[uint16]string), told: make(map[uint16]string)}
	go p.read()
	return p
}

func (p *peer) read() {
	var buf []byte
	chunk := make([]byte, 4096)
	for {
		n, err := p.conn.Read(chunk)
		buf = append(buf, chunk[:n]...)
		for err == nil {
			h, size, broken := packets.DecodeHeader(buf)
			if err = broken; err != nil || size == 0 || len(buf) < size+h.Remaining {
				break
			}
			packet := packets.New(h.Type)
			if err = packet.Decode(h.Flags, bytes.Clone(buf[size:size+h.Remaining]), p.version); err != nil {
				err = fmt.Errorf("undecodable: % x: %w", buf[:size+h.Remaining], err)
				break
			}
			buf = buf[size+h.Remaining:]
			p.mu.Lock()
			p.inbox = append(p.inbox, packet)
			p.largest = max(p.largest, size+h.Remaining)
			p.mu.Unlock()
		}
		if err != nil {
			p.mu.Lock()
			p.err = err
			p.mu.Unlock()
			p.conn.Close()
			return
		}
	}
}

// receive returns what has come.
func (p *peer) receive() ([]packets.Packet, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	list := p.inbox
	p.inbox = nil
	return list, p.err
}

// largestPacket is the size of the largest packet that has come.
func (p *peer) largestPacket() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.largest
}

// send writes packets in one piece. That the broker has closed the connection is
// seen elsewhere.
func (p *peer) send(list ...packets.Packet) {
	var b []byte
	for _, packet := range list {
		var err error
		if b, err = packet.AppendTo(b, p.version); err != nil {
			panic(fmt.Sprintf("encode %v %+v: %v", packet.Type(), packet, err))
		}
	}
	if len(b) > 0 { // a pipe hands over an empty write as an empty read
		p.write(b)
	}
}

func (p *peer) write(b []byte) {
	p.heard = time.Now()
	_ = p.conn.SetWriteDeadline(time.Now().Add(time.Hour)) // or a broker that does not read would hang the test
	_, _ = p.conn.Write(b)
}

// answerOf returns a packet as an answer; ok is false for those that are none.
func answerOf(packet packets.Packet) (a answer, ok bool) {
	a.kind = packet.Type()
	switch p := packet.(type) {
	case *packets.Connack:
		a.codes = []packets.ReasonCode{p.Reason}
		if p.SessionPresent {
			a.id = 1
		}
	case *packets.Puback:
		a.id, a.codes = p.PacketID, []packets.ReasonCode{p.Reason}
	case *packets.Pubrec:
		a.id, a.codes = p.PacketID, []packets.ReasonCode{p.Reason}
	case *packets.Pubcomp:
		a.id, a.codes = p.PacketID, []packets.ReasonCode{p.Reason}
	case *packets.Suback:
		a.id, a.codes = p.PacketID, slices.Clone(p.Reasons)
	case *packets.Unsuback:
		a.id, a.codes = p.PacketID, slices.Clone(p.Reasons)
	case *packets.Pingresp:
	default:
		return a, false
	}
	return a, true
}
