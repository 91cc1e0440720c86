package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
)

// A counter counts what was asked of the registry, and answers for it on out.
type counter struct {
	tell int64 // see link

	mu       sync.Mutex
	out      io.Writer
	requests map[string]int
	bytes    int64 // on limited links only: plain connections pass it by
	untold   int64
	open     int
	most     int
}

// Counts is what was asked since the last time it was answered.
type Counts struct {
	Requests    map[string]int // by method and kind, "GET blob"
	Bytes       int64          // to clients, on limited links only
	Connections int            // most open at once
}

// asked counts a request.
func (c *counter) asked(kind string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.requests == nil {
		c.requests = map[string]int{}
	}
	c.requests[kind]++
}

// sent counts bytes that went to a client.
func (c *counter) sent(n int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.bytes += n
	if c.tell == 0 {
		return
	}
	for c.untold += n; c.untold >= c.tell; c.untold -= c.tell {
		fmt.Fprintln(c.out, "sent")
	}
}

// connState counts connections: see http.Server.
func (c *counter) connState(_ net.Conn, state http.ConnState) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch state {
	case http.StateNew:
		c.open++
		c.most = max(c.most, c.open)
	case http.StateClosed, http.StateHijacked:
		c.open--
	}
}

// answer prints the counts and begins anew.
func (c *counter) answer() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	counts := Counts{Requests: c.requests, Bytes: c.bytes, Connections: c.most}
	c.requests, c.bytes, c.most = nil, 0, c.open
	return json.NewEncoder(c.out).Encode(counts)
}
