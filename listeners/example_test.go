package listeners_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"

	"golang.org/x/net/websocket"

	"github.com/petrelmq/petrel/listeners"
)

// serve stands for the Serve method of a broker: it echoes.
func serve(l net.Listener) error {
	for {
		c, err := l.Accept()
		if err != nil {
			return err
		}
		go func() {
			defer c.Close()
			_, _ = io.Copy(c, c)
		}()
	}
}

// greet sends a line and returns what comes back.
func greet(c net.Conn) string {
	defer c.Close()
	if _, err := io.WriteString(c, "hello"); err != nil {
		log.Fatal(err)
	}
	answer := make([]byte, len("hello"))
	if _, err := io.ReadFull(c, answer); err != nil {
		log.Fatal(err)
	}
	return string(answer)
}

// Plain TCP, and WebSocket on a mux that has other things to do as well.
func Example() {
	tcp, err := listeners.TCP("127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	ws := listeners.NewWebSocket(listeners.WebSocketOptions{})

	done := make(chan error)
	for _, l := range []net.Listener{tcp, ws} {
		go func() { done <- serve(l) }()
	}

	mux := http.NewServeMux()
	mux.Handle("/mqtt", ws)
	mux.HandleFunc("/health", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "fine") })
	server := httptest.NewServer(mux) // or http.ListenAndServe(":80", mux)
	defer server.Close()

	c, err := net.Dial("tcp", tcp.Addr().String())
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("tcp:", greet(c))

	url := "ws" + strings.TrimPrefix(server.URL, "http") + "/mqtt"
	wc, err := websocket.Dial(url, "mqtt", server.URL)
	if err != nil {
		log.Fatal(err)
	}
	wc.PayloadType = websocket.BinaryFrame
	fmt.Println("websocket:", greet(wc))

	tcp.Close()
	ws.Close()
	for range 2 {
		fmt.Println("closed:", errors.Is(<-done, net.ErrClosed))
	}
	// Output:
	// tcp: hello
	// websocket: hello
	// closed: true
	// closed: true
}

// A client in the same process, without a network.
func ExamplePipe() {
	l := listeners.Pipe()
	done := make(chan error)
	go func() { done <- serve(l) }()

	c, err := l.Dial(context.Background())
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(greet(c))

	l.Close()
	fmt.Println(<-done)
	// Output:
	// hello
	// accept pipe pipe: use of closed network connection
}

// WebSocket on a port of its own.
func ExampleWebSocketListen() {
	l, err := listeners.WebSocketListen("127.0.0.1:0", listeners.WebSocketOptions{Path: "/mqtt"})
	if err != nil {
		log.Fatal(err)
	}
	done := make(chan error)
	go func() { done <- serve(l) }()

	url := "ws://" + l.Addr().String() + "/mqtt"
	c, err := websocket.Dial(url, "mqtt", "http://"+l.Addr().String())
	if err != nil {
		log.Fatal(err)
	}
	c.PayloadType = websocket.BinaryFrame
	fmt.Println(greet(c))

	l.Close()
	<-done
	// Output: hello
}
