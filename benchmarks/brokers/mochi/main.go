// Mochi is mochi-mqtt as a program of its own: everybody may do everything, and
// all other settings are what the library makes them.
package main

import (
	"crypto/tls"
	"flag"
	"io"
	"log"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/hooks/auth"
	"github.com/mochi-mqtt/server/v2/listeners"
)

func main() {
	var (
		tcp         = flag.String("tcp", "", "listen for MQTT on `ADDR`")
		secure      = flag.String("tls", "", "listen for MQTT over TLS on `ADDR`")
		ws          = flag.String("ws", "", "listen for MQTT over WebSocket on `ADDR`")
		certificate = flag.String("certificate", "", "certificate `FILE` (PEM)")
		key         = flag.String("key", "", "key `FILE` (PEM)")
	)
	flag.Parse()
	server := mqtt.New(&mqtt.Options{Logger: slog.New(slog.NewTextHandler(io.Discard, nil))})
	if err := server.AddHook(new(auth.AllowHook), nil); err != nil {
		log.Fatal(err)
	}
	add := func(l listeners.Listener) {
		if err := server.AddListener(l); err != nil {
			log.Fatal(err)
		}
	}
	if *tcp != "" {
		add(listeners.NewTCP(listeners.Config{ID: "tcp", Address: *tcp}))
	}
	if *ws != "" {
		add(listeners.NewWebsocket(listeners.Config{ID: "ws", Address: *ws}))
	}
	if *secure != "" {
		pair, err := tls.LoadX509KeyPair(*certificate, *key)
		if err != nil {
			log.Fatal(err)
		}
		add(listeners.NewTCP(listeners.Config{ID: "tls", Address: *secure, TLSConfig: &tls.Config{Certificates: []tls.Certificate{pair}}}))
	}
	if err := server.Serve(); err != nil {
		log.Fatal(err)
	}
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, os.Interrupt, syscall.SIGTERM)
	<-stop
	_ = server.Close()
}
