package listeners

import (
	"log/slog"
	"net/http"
	"sync"
	"time"
)

// logRefusal tells why a request was not upgraded. What the client chose is cut
// to a length that no log minds.
func (s *WebSocket) logRefusal(r *http.Request, status int, reason string) {
	level := slog.LevelInfo
	if !hasToken(r.Header, "Upgrade", "websocket") {
		level = slog.LevelDebug // somebody looks around
	}
	if !s.opts.Logger.Enabled(r.Context(), level) {
		return
	}
	leftOut, ok := s.log.take()
	if !ok {
		return
	}
	s.opts.Logger.Log(r.Context(), level, "listeners: websocket: upgrade refused", "reason", reason, "status", status,
		"address", r.RemoteAddr, "host", clip(r.Host), "path", clip(r.URL.Path), "origin", clip(r.Header.Get("Origin")),
		"forwarded", clip(r.Header.Get(s.opts.ProxyHeader)), "left out before", leftOut)
}

func clip(s string) string {
	const most = 200
	if len(s) > most {
		return s[:most] + "..."
	}
	return s
}

// sampler lets a few lines a second pass, so that no client can fill a disk.
type sampler struct {
	mu      sync.Mutex
	second  time.Time // that is being counted
	passed  int
	leftOut int // since the last line that passed
}

const linesPerSecond = 20

// take reports whether a line may be written, and how many were not before it.
func (s *sampler) take() (leftOut int, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if now := time.Now(); now.Sub(s.second) >= time.Second {
		s.second, s.passed = now, 0
	}
	if s.passed >= linesPerSecond {
		s.leftOut++
		return 0, false
	}
	s.passed++
	leftOut, s.leftOut = s.leftOut, 0
	return leftOut, true
}
