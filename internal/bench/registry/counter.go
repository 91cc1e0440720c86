package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"
)

// A counter counts the requests that the registry gets, and prints the counts to out.
type counter struct {
	tell      int64         // see link
	roundTrip time.Duration // of the wide-area link, 0 without one

	mu       sync.Mutex
	out      io.Writer
	requests map[string]int
	log      []request // on the wide-area link only
	blobs    map[digest.Digest]int
	carriers map[string]bool // connections with a request for a large blob, by the client's address
	bytes    int64           // on limited links only, because plain connections are not counted
	untold   int64           // bytes since the last line "sent"
	open     int
	most     int
}

// Counts are the requests since the last answer.
type Counts struct {
	Requests    map[string]int      // by method and kind, "GET blob"
	OneBlob     int                 // most requests for one blob
	Carriers    int                 // connections with a request for a blob larger than small
	Chains      map[string][]string // on the wide-area link, by repository: see chains
	Bytes       int64               // to clients, on limited links only
	Connections int                 // most open at once
}

// A request is a request of a client. Its repositories have spaces between them.
type request struct {
	kind         string
	repositories string
	at           time.Time
}

// asked counts a request.
func (c *counter) asked(kind, repositories string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.requests == nil {
		c.requests = map[string]int{}
	}
	c.requests[kind]++
	if c.roundTrip > 0 {
		c.log = append(c.log, request{kind, repositories, time.Now()})
	}
}

// small is a number of bytes: configs have at most so many, and layers have more.
const small = 8 << 10

// askedBlob counts a request for a blob, in addition to asked.
func (c *counter) askedBlob(d digest.Digest, size int64, client string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.blobs == nil {
		c.blobs, c.carriers = map[digest.Digest]int{}, map[string]bool{}
	}
	c.blobs[d]++
	if size > small {
		c.carriers[client] = true
	}
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

// chains returns, for each repository, the kinds of the requests that may have waited for one
// another. That is the longest list of requests in which each arrived a round trip or more
// after the one before. A request that waited for an answer cannot arrive earlier, because the
// registry starts each answer at once. A request that is as late for another reason, such as
// the wait for a connection, is in the list too.
func chains(log []request, roundTrip time.Duration) map[string][]string {
	all := map[string][]string{}
	last := map[string]time.Time{}
	for _, r := range log {
		for _, repository := range strings.Fields(r.repositories) {
			if len(all[repository]) == 0 || r.at.Sub(last[repository]) >= roundTrip {
				all[repository] = append(all[repository], r.kind)
				last[repository] = r.at
			}
		}
	}
	return all
}

// answer prints the counts and resets them.
func (c *counter) answer() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	counts := Counts{
		Requests: c.requests, Carriers: len(c.carriers), Chains: chains(c.log, c.roundTrip), Bytes: c.bytes, Connections: c.most,
	}
	for _, n := range c.blobs {
		counts.OneBlob = max(counts.OneBlob, n)
	}
	c.requests, c.log, c.blobs, c.carriers, c.bytes, c.most = nil, nil, nil, nil, 0, c.open
	return json.NewEncoder(c.out).Encode(counts)
}
