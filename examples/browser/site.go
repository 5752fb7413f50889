package main

import (
	"embed"
	"io/fs"
	"net/http"
	"path/filepath"
)

//go:embed page
var embedded embed.FS

// policy lets the page load what this program serves, connect to it, and nothing else.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; " +
	"base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

// site serves the page, MQTT.js from the directory that npm fills, and MQTT.
func site(modules string, mqtt http.Handler) (http.Handler, error) {
	page, err := fs.Sub(embedded, "page")
	mux := http.NewServeMux()
	mux.Handle("/mqtt", mqtt)
	mux.HandleFunc("GET /mqtt.min.js", func(w http.ResponseWriter, r *http.Request) {
		http.ServeFile(w, r, filepath.Join(modules, "mqtt", "dist", "mqtt.min.js")) // 404 before npm ci: the page says what to do
	})
	mux.Handle("/", http.FileServerFS(page))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Security-Policy", policy)
		w.Header().Set("X-Content-Type-Options", "nosniff")
		w.Header().Set("Referrer-Policy", "no-referrer")
		mux.ServeHTTP(w, r)
	}), err
}
