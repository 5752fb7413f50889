// Browser is a program with a web page that is an MQTT client: it follows a
// topic filter and publishes, with MQTT.js, over a WebSocket on the mux that
// serves the page. Other clients come over TCP.
//
//	npm ci --prefix examples/browser    # MQTT.js, once
//	go run ./examples/browser           # then open http://127.0.0.1:8080
package main

import (
	"context"
	"errors"
	"flag"
	"log"
	"net"
	"net/http"
	"path/filepath"
	"runtime"

	"github.com/petrelmq/petrel"
	"github.com/petrelmq/petrel/hooks/auth"
	"github.com/petrelmq/petrel/listeners"
)

func main() {
	_, source, _, _ := runtime.Caller(0)
	serveMQTT := flag.String("mqtt", "127.0.0.1:1883", "`address` to serve MQTT on")
	serveHTTP := flag.String("http", "127.0.0.1:8080", "`address` to serve the page and MQTT over WebSocket on")
	modules := flag.String("modules", filepath.Join(filepath.Dir(source), "node_modules"), "`directory` with MQTT.js")
	flag.Parse()
	broker, err := petrel.New(petrel.Options{Hooks: []petrel.Hook{auth.AllowLocal{}}})
	if err != nil {
		log.Fatal(err)
	}
	overTCP, err := net.Listen("tcp", *serveMQTT)
	if err != nil {
		log.Fatal(err)
	}
	overHTTP, err := net.Listen("tcp", *serveHTTP)
	if err != nil {
		log.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(overHTTP.Addr().String())
	// Named, since a page of anybody can be given a name that leads to this machine.
	origins := []string{"http://127.0.0.1:" + port, "http://[::1]:" + port, "http://localhost:" + port}
	ws := listeners.NewWebSocket(listeners.WebSocketOptions{Origins: origins})
	pages, err := site(*modules, ws)
	welcome := petrel.Message{Topic: "petrel/welcome", Payload: []byte("from the host program"), Retain: true}
	if err := errors.Join(err, broker.Publish(context.Background(), welcome)); err != nil {
		log.Fatal(err)
	}
	log.Printf("listening on %s for MQTT, on http://%s for browsers", overTCP.Addr(), overHTTP.Addr())
	ended := make(chan error, 3)
	go func() { ended <- broker.Serve(overTCP) }()
	go func() { ended <- broker.Serve(ws) }()
	go func() { ended <- http.Serve(overHTTP, pages) }()
	log.Fatal(errors.Join(<-ended, broker.Close()))
}
