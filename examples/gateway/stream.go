package main

import (
	"context"
	"net/http"

	"github.com/petrelmq/petrel"
)

// stream sends the messages of a filter as server-sent events until the client
// goes: the retained ones first, then what comes. The handler of a subscription
// may take its time, so that a dashboard that reads slowly costs nobody but
// itself: its messages wait in a bounded queue.
func (g gateway) stream(w http.ResponseWriter, r *http.Request) {
	events := make(chan event)
	sub, err := g.broker.Subscribe(r.FormValue("filter"), petrel.SubscribeOptions{}, func(ctx context.Context, m *petrel.Message) {
		select {
		case events <- event{m.Topic, string(m.Payload), m.Retain}:
		case <-ctx.Done():
		}
	})
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	defer sub.Close()
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-store")
	flush := http.NewResponseController(w)
	for {
		if flush.Flush() != nil {
			return
		}
		select {
		case e := <-events:
			if e.writeTo(w) != nil {
				return
			}
		case <-r.Context().Done():
			return
		}
	}
}
