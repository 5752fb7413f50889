// Gateway is an HTTP server with a broker inside. Devices that know no MQTT
// report by POST, dashboards follow a topic filter by server-sent events, and
// MQTT clients come over TCP, or over WebSocket on the server's own mux.
//
//	curl -d 21.5 http://127.0.0.1:8080/readings/greenhouse
//	curl -N 'http://127.0.0.1:8080/stream?filter=readings/%23'
package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"

	"github.com/petrelmq/petrel"
	"github.com/petrelmq/petrel/hooks/auth"
	"github.com/petrelmq/petrel/listeners"
)

// gateway serves HTTP in front of a broker.
type gateway struct{ broker *petrel.Broker }

func (g gateway) mux(mqtt http.Handler) *http.ServeMux {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /readings/{device}", g.report)
	mux.HandleFunc("GET /stream", g.stream)
	mux.Handle("/mqtt", mqtt)
	return mux
}

const largestReading = 64 << 10

// report publishes the body of the request, for as long as there is no newer one.
func (g gateway) report(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, largestReading))
	if err != nil {
		http.Error(w, err.Error(), http.StatusRequestEntityTooLarge)
		return
	}
	m := petrel.Message{
		Topic: "readings/" + r.PathValue("device"), Payload: body, QoS: petrel.AtLeastOnce, Retain: true,
		ContentType: r.Header.Get("Content-Type"),
	}
	if err := g.broker.Publish(r.Context(), m); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	w.WriteHeader(http.StatusAccepted)
}

func main() {
	serveMQTT := flag.String("mqtt", "127.0.0.1:1883", "`address` to serve MQTT on")
	serveHTTP := flag.String("http", "127.0.0.1:8080", "`address` to serve HTTP on")
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
	ws := listeners.NewWebSocket(listeners.WebSocketOptions{})
	log.Printf("listening on %s for MQTT, on %s for HTTP", overTCP.Addr(), overHTTP.Addr())
	ended := make(chan error, 3)
	go func() { ended <- broker.Serve(overTCP) }()
	go func() { ended <- broker.Serve(ws) }()
	go func() { ended <- http.Serve(overHTTP, gateway{broker}.mux(ws)) }()
	log.Fatal(errors.Join(<-ended, broker.Close()))
}

// event is what a stream tells of a message.
type event struct {
	Topic    string `json:"topic"`
	Payload  string `json:"payload"`
	Retained bool   `json:"retained"`
}

func (e event) writeTo(w io.Writer) error {
	data, err := json.Marshal(e)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(w, "data: %s\n\n", data)
	return err
}
