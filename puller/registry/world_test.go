package registry_test

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
)

// A world has all servers of a test, by "scheme://host", without a network. It records
// the requests to each server.
type world struct {
	mu      sync.Mutex
	servers map[string]http.HandlerFunc
	seen    []*http.Request
}

func newWorld(servers map[string]http.HandlerFunc) *world { return &world{servers: servers} }

func (w *world) RoundTrip(req *http.Request) (*http.Response, error) {
	if err := req.Context().Err(); err != nil {
		return nil, err
	}
	origin := req.URL.Scheme + "://" + req.URL.Host
	w.mu.Lock()
	w.seen = append(w.seen, req)
	h := w.servers[origin]
	w.mu.Unlock()
	if h == nil {
		return nil, errors.New("dial: connection refused")
	}
	rec := httptest.NewRecorder()
	clone := req.Clone(req.Context())
	clone.RequestURI = req.URL.RequestURI()
	if clone.Body == nil {
		clone.Body = http.NoBody
	}
	h(rec, clone)
	resp := rec.Result()
	resp.Request = req
	return resp, nil
}

// asked lists the requests so far as "origin path", with the scheme of their
// Authorization.
func (w *world) asked() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	var list []string
	for _, r := range w.seen {
		line := r.Method + " " + r.URL.Scheme + "://" + r.URL.Host + r.URL.RequestURI()
		if scheme, _, _ := strings.Cut(r.Header.Get("Authorization"), " "); scheme != "" {
			line += " " + scheme
		}
		list = append(list, line)
	}
	w.seen = nil
	return list
}

func redirectTo(location string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Location", location)
		w.WriteHeader(http.StatusTemporaryRedirect)
	}
}

func challenge(header string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("WWW-Authenticate", header)
		w.WriteHeader(http.StatusUnauthorized)
	}
}

func text(body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, body) }
}

// signedIn lets h answer requests with an Authorization, and challenges all others.
func signedIn(header string, h http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") == "" {
			challenge(header)(w, r)
			return
		}
		h(w, r)
	}
}
