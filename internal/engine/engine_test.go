package engine_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/petrelmq/petrel/internal/engine"
)

// record is a protocol with two bytes of length in front of each packet.
type record struct {
	got  [][]byte
	hold chan struct{}
	came chan struct{} // gets one for each packet
}

func (r *record) Data(b []byte) (used, need int, err error) {
	for {
		rest := b[used:]
		if len(rest) < 2 {
			return used, 0, nil
		}
		size := 2 + int(binary.BigEndian.Uint16(rest))
		if len(rest) < size {
			return used, size, nil
		}
		r.got = append(r.got, bytes.Clone(rest[2:size]))
		used += size
		if r.came != nil {
			r.came <- struct{}{}
		}
	}
}

func (r *record) Hold() <-chan struct{} {
	h := r.hold
	r.hold = nil
	if h == nil {
		return nil
	}
	return h
}

func packet(payload []byte) []byte {
	return append(binary.BigEndian.AppendUint16(nil, uint16(len(payload))), payload...)
}

// pair is a connection of each kind that the engine tells apart.
func pairs(t *testing.T) map[string]func() (client, server net.Conn) {
	return map[string]func() (client, server net.Conn){
		"pipe": net.Pipe,
		"tcp": func() (client, server net.Conn) {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			require.NoError(t, err)
			defer l.Close()
			accepted := make(chan net.Conn, 1)
			go func() {
				c, err := l.Accept()
				if err == nil {
					accepted <- c
				}
			}()
			client, err = net.Dial("tcp", l.Addr().String())
			require.NoError(t, err)
			return client, <-accepted
		},
	}
}

func TestServeHandlesEachPacketWhenItsLastByteHasCome(t *testing.T) {
	stream := append(packet([]byte("first")), packet(nil)...)
	stream = append(stream, packet([]byte("x"))...)
	for kind, dial := range pairs(t) {
		for cut := 1; cut < len(stream); cut++ {
			for width := 1; width <= 3; width++ {
				t.Run(fmt.Sprintf("%s cut at %d then by %d", kind, cut, width), func(t *testing.T) {
					client, server := dial()
					defer client.Close()
					h := &record{came: make(chan struct{}, 3)}
					ended := make(chan error, 1)
					go func() { ended <- engine.NewConn(server).Serve(h) }()
					_, err := client.Write(stream[:cut])
					require.NoError(t, err)
					for at := cut; at < len(stream); at += width {
						_, err := client.Write(stream[at:min(at+width, len(stream))])
						require.NoError(t, err)
					}
					for range 3 { // while the connection is open
						<-h.came
					}
					client.Close()
					require.Error(t, <-ended)
					require.Equal(t, [][]byte{[]byte("first"), {}, []byte("x")}, h.got)
				})
			}
		}
	}
}

func TestServeReadsPacketsLargerThanItsBuffer(t *testing.T) {
	for kind, dial := range pairs(t) {
		t.Run(kind, func(t *testing.T) {
			client, server := dial()
			defer client.Close()
			h := &record{came: make(chan struct{}, 2)}
			go engine.NewConn(server).Serve(h)
			large := bytes.Repeat([]byte("0123456789"), 6500)
			_, err := client.Write(append(packet(large), packet([]byte("next"))...))
			require.NoError(t, err)
			<-h.came
			<-h.came
			require.Equal(t, [][]byte{large, []byte("next")}, h.got)
		})
	}
}

func TestServeReturnsWhyItEnded(t *testing.T) {
	for kind, dial := range pairs(t) {
		t.Run(kind+" closed by the peer", func(t *testing.T) {
			client, server := dial()
			client.Close()
			require.ErrorIs(t, engine.NewConn(server).Serve(&record{}), io.EOF)
		})
		t.Run(kind+" interrupted", func(t *testing.T) {
			client, server := dial()
			defer client.Close()
			conn := engine.NewConn(server)
			ended := make(chan error, 1)
			go func() { ended <- conn.Serve(&record{}) }()
			conn.Interrupt()
			require.True(t, engine.IsTimeout(<-ended))
		})
	}
	t.Run("error of the handler", func(t *testing.T) {
		client, server := net.Pipe()
		defer client.Close()
		want := errors.New("enough")
		go client.Write([]byte{1, 2})
		require.ErrorIs(t, engine.NewConn(server).Serve(refuser{want}), want)
	})
}

type refuser struct{ err error }

func (r refuser) Data([]byte) (int, int, error) { return 0, 0, r.err }
func (r refuser) Hold() <-chan struct{}         { return nil }

func TestHoldStopsReading(t *testing.T) {
	client, server := net.Pipe()
	defer client.Close()
	release := make(chan struct{})
	h := &record{hold: release, came: make(chan struct{}, 2)}
	go engine.NewConn(server).Serve(h)
	_, err := client.Write(packet([]byte("one")))
	require.NoError(t, err)
	<-h.came
	require.NoError(t, client.SetWriteDeadline(time.Now().Add(20*time.Millisecond)))
	n, err := client.Write(packet([]byte("two")))
	require.True(t, engine.IsTimeout(err), "the engine must not read while it is held")
	require.Zero(t, n)
	require.NoError(t, client.SetWriteDeadline(time.Time{}))
	close(release)
	_, err = client.Write(packet([]byte("two")))
	require.NoError(t, err)
	<-h.came
	require.Equal(t, [][]byte{[]byte("one"), []byte("two")}, h.got)
}

func TestTryWriteDoesNotBlock(t *testing.T) {
	for kind, dial := range pairs(t) {
		t.Run(kind, func(t *testing.T) {
			client, server := dial()
			defer client.Close()
			defer server.Close()
			conn := engine.NewConn(server)
			chunk := make([]byte, 64<<10)
			for range 4096 { // far more than a socket buffers
				n, err := conn.TryWrite(chunk)
				require.NoError(t, err)
				if n < len(chunk) {
					return
				}
			}
			t.Fatal("256 MiB were written to a peer that does not read")
		})
	}
}
