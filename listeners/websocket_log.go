package listeners

import (
	"log/slog"
	"net/http"
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
	leftOut, ok := s.log.Take()
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
