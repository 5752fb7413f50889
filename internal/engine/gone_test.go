package engine_test

import (
	"crypto/tls"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/petrelmq/petrel/internal/certtest"
	"github.com/petrelmq/petrel/internal/engine"
)

// gathered is a socket whose writes may be gathered, to be sent as one.
type gathered struct {
	net.Conn
	gather bool
	b      []byte
}

func (g *gathered) Write(b []byte) (int, error) {
	if g.b = append(g.b, b...); g.gather {
		return len(b), nil
	}
	all := g.b
	g.b = nil
	_, err := g.Conn.Write(all)
	return len(b), err
}

// visit is a connection that has a socket, and may have TLS on it.
type visit struct {
	socket *gathered
	client net.Conn // over the socket
	server engine.Conn
	record *record
}

// end is why it has ended.
func (v *visit) end(t *testing.T) error {
	t.Helper()
	return soon(t, v.record.ended)
}

// soon waits for a value, and not for ever.
func soon[T any](t *testing.T, c <-chan T) (v T) {
	t.Helper()
	select {
	case v = <-c:
	case <-time.After(10 * time.Second):
		require.FailNow(t, "it does not come")
	}
	return v
}

// eachVisit makes a connection of each kind that has a socket. Once it has begun to
// speak, look is called by who has the turn, and then the rest of the test.
func eachVisit(t *testing.T, begin, look func(v *visit), then func(t *testing.T, v *visit)) {
	for _, kind := range append(kinds()[1:], "TLS") {
		t.Run(kind, func(t *testing.T) {
			h, v := newHost(t, engine.Config{Loops: true}), &visit{record: newRecord()}
			plain := kind
			if kind == "TLS" {
				plain = "tcp"
			}
			near, server := h.connect(t, plain)
			v.socket, v.server = &gathered{Conn: near}, server
			v.client = v.socket
			if kind == "TLS" {
				ca := certtest.New()
				secure := tls.Client(v.socket, ca.Client())
				far := tls.Server(server.NetConn(), &tls.Config{Certificates: []tls.Certificate{ca.Issue("server")}})
				v.client, v.server = secure, h.Stream(far)
				h.wg.Go(func() { _ = far.Handshake() })
				require.NoError(t, secure.Handshake())
			}
			looked := make(chan struct{})
			var once sync.Once
			v.record.conn = v.server
			v.record.mayWait.Store(true)
			v.record.inData = func() {
				once.Do(func() {
					defer close(looked)
					look(v)
				})
			}
			v.server.Start(v.record)
			begin(v)
			soon(t, looked)
			then(t, v)
			v.client.Close()
			<-v.record.over
		})
	}
}

// A peer that leaves is noticed by who has the turn, however it does that.
func TestGone(t *testing.T) {
	for name, leave := range map[string]func(v *visit){
		"with a farewell": func(v *visit) { v.client.Close() },
		"cut off":         func(v *visit) { v.socket.Close() },
		"reset": func(v *visit) {
			_ = v.socket.Conn.(*net.TCPConn).SetLinger(0)
			v.socket.Close()
		},
	} {
		t.Run(name, func(t *testing.T) {
			var early, noticed bool
			eachVisit(t, func(v *visit) { send(t, v.client, packet([]byte("here"))) }, func(v *visit) {
				early = v.server.Gone()
				leave(v)
				noticed = assert.Eventually(t, v.server.Gone, 3*time.Second, time.Millisecond)
			}, func(t *testing.T, v *visit) {
				require.False(t, early, "it was there")
				require.True(t, noticed)
				require.Error(t, v.end(t))
			})
		})
	}
}

// What a peer has said is heard, though it has gone by then, and wherever it is when
// it is looked for.
func TestGoneIsNotBeforeItIsHeard(t *testing.T) {
	say := func(v *visit) { send(t, v.client, packet([]byte("more"))) }
	for _, together := range []bool{false, true} {
		t.Run(map[bool]string{false: "sent later", true: "sent in one write"}[together], func(t *testing.T) {
			gone := false
			eachVisit(t, func(v *visit) {
				v.socket.gather = together
				send(t, v.client, packet([]byte("first")))
				if together {
					v.socket.gather = false
					say(v)
				}
			}, func(v *visit) {
				if !together {
					say(v)
				}
				v.client.Close()
				for range 10 {
					gone = gone || v.server.Gone()
				}
			}, func(t *testing.T, v *visit) {
				bare := v.server.NetConn() == nil || v.client == net.Conn(v.socket)
				if !together || !bare { // of a bare socket all is handled at once
					require.False(t, gone)
				}
				require.Error(t, v.end(t))
				require.Equal(t, [][]byte{[]byte("first"), []byte("more")}, v.record.got)
				gone = false
			})
		})
	}
}

// To look for a peer does not keep a connection from being interrupted, nor from
// waiting for what comes later.
func TestGoneLeavesTheConnectionAsItIs(t *testing.T) {
	eachVisit(t, func(v *visit) { send(t, v.client, packet([]byte("first"))) }, func(v *visit) {
		v.socket.gather = true
		send(t, v.client, packet([]byte("second")))
		whole := v.socket.b
		v.socket.gather, v.socket.b = false, nil
		send(t, v.socket, whole[:len(whole)/2])
		for range 3 {
			if v.server.Gone() {
				t.Error("it has not gone")
			}
		}
		send(t, v.socket, whole[len(whole)/2:])
	}, func(t *testing.T, v *visit) {
		<-v.record.came
		time.AfterFunc(50*time.Millisecond, func() { _, _ = v.client.Write(packet([]byte("third"))) })
		for range 2 {
			select {
			case <-v.record.came:
			case err := <-v.record.ended:
				require.NoError(t, err)
			}
		}
		v.server.Interrupt()
		require.True(t, engine.IsTimeout(v.end(t)))
		require.Equal(t, [][]byte{[]byte("first"), []byte("second"), []byte("third")}, v.record.got)
	})
	t.Run("interrupted meanwhile", func(t *testing.T) {
		eachVisit(t, func(v *visit) { send(t, v.client, packet([]byte("first"))) }, func(v *visit) {
			send(t, v.socket.Conn, []byte{0}) // neither a packet nor a record
			v.server.Interrupt()
			v.server.Gone()
		}, func(t *testing.T, v *visit) {
			require.True(t, engine.IsTimeout(v.end(t)))
		})
	})
}

// unshaken is a connection whose first Read would begin a handshake.
type unshaken struct {
	net.Conn
	reads int
}

func (u *unshaken) NetConn() net.Conn { return u.Conn }

func (u *unshaken) Read(b []byte) (int, error) {
	u.reads++
	return u.Conn.Read(b)
}

func TestGoneBeginsNoHandshake(t *testing.T) {
	h := newHost(t, engine.Config{})
	client, server := h.connect(t, "tcp")
	u := &unshaken{Conn: server.NetConn()}
	send(t, client, []byte("hello"))
	s := h.Stream(u)
	require.False(t, s.Gone())
	require.Zero(t, u.reads)
	s.Close(0)
}
