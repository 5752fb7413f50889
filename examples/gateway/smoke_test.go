package main

import (
	"bufio"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/petrelmq/petrel/examples/internal/smoke"
	"github.com/petrelmq/petrel/packets"
)

func TestReadingsGoAllWays(t *testing.T) {
	at := smoke.Start(t, `listening on (\S+) for MQTT, on (\S+) for HTTP`, "-mqtt", "127.0.0.1:0", "-http", "127.0.0.1:0")
	mqtt, web := at[0], "http://"+at[1]

	post := func(device, body string) int {
		r, err := http.Post(web+"/readings/"+device, "text/plain", strings.NewReader(body))
		require.NoError(t, err)
		r.Body.Close()
		return r.StatusCode
	}
	require.Equal(t, http.StatusAccepted, post("greenhouse", "21.5"))
	require.Equal(t, http.StatusBadRequest, post("+", "21.5"))
	require.Equal(t, http.StatusRequestEntityTooLarge, post("greenhouse", strings.Repeat("x", largestReading+1)))

	// A client hears what was posted, before and after it came.
	sub := smoke.Connect(t, mqtt, packets.Connect{ClientID: []byte("sub")})
	sub.Subscribe(0, "readings/#")
	sub.ExpectPublish("readings/greenhouse", "21.5")
	require.Equal(t, http.StatusAccepted, post("greenhouse", "22"))
	sub.ExpectPublish("readings/greenhouse", "22")

	// A dashboard hears clients.
	r, err := http.Get(web + "/stream?filter=readings/%23")
	require.NoError(t, err)
	defer r.Body.Close()
	require.Equal(t, "text/event-stream", r.Header.Get("Content-Type"))
	lines := bufio.NewReader(r.Body)
	next := func() string {
		for {
			line, err := lines.ReadString('\n')
			require.NoError(t, err)
			if line != "\n" {
				return strings.TrimSpace(line)
			}
		}
	}
	require.Equal(t, `data: {"topic":"readings/greenhouse","payload":"22","retained":true}`, next())
	sub.Send(&packets.Publish{Topic: []byte("readings/cellar"), Payload: []byte("12")})
	require.Equal(t, `data: {"topic":"readings/cellar","payload":"12","retained":false}`, next())

	bad, err := http.Get(web + "/stream?filter=a%23")
	require.NoError(t, err)
	bad.Body.Close()
	require.Equal(t, http.StatusBadRequest, bad.StatusCode)
}
