package scripted

import (
	"encoding/base64"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"
)

// A Request is one entry of a Stage's log.
type Request struct {
	At       time.Duration // since the start
	Run      int           // of the scenario's runs, from 0
	Listener string        // main, tls, port or second
	Method   string
	URI      string // path and query as sent
	Host     string
	Header   http.Header
	Body     string // its first 64 KiB
	// Secrets are the names of the scenario's secrets that are anywhere in the request,
	// also in base64 or with percent-encoding.
	Secrets []string
	Rule    int   // the rule that answered, from 0; -1 means the well-behaved registry
	Status  int   // of the answer; 0 if there was no answer, or an answer that is not HTTP
	Sent    int64 // body bytes that were sent so far
}

// Log returns the requests so far, in the order of their arrival. Requests that were not
// answered are included.
func (s *Stage) Log() []Request {
	s.log.mu.Lock()
	defer s.log.mu.Unlock()
	return slices.Clone(s.log.requests)
}

// BeginRun says that the next requests are those of run i. Run 0 needs no call.
func (s *Stage) BeginRun(i int) {
	s.log.mu.Lock()
	defer s.log.mu.Unlock()
	s.log.run = i
	s.log.sentBefore = s.log.total
}

// Sent returns how many body bytes the registry has sent in this run.
func (s *Stage) Sent() int64 {
	s.log.mu.Lock()
	defer s.log.mu.Unlock()
	return s.log.total - s.log.sentBefore
}

// notifySent closes the returned channel when n body bytes were sent in this run.
func (s *Stage) notifySent(n int64) <-chan struct{} {
	s.log.mu.Lock()
	defer s.log.mu.Unlock()
	reached := make(chan struct{})
	s.log.watches = append(s.log.watches, watch{s.log.sentBefore + n, reached})
	return reached
}

// A requestLog keeps the requests.
type requestLog struct {
	mu         sync.Mutex
	requests   []Request
	run        int
	total      int64
	sentBefore int64 // total when the run began
	watches    []watch
}

type watch struct {
	at      int64
	reached chan struct{}
}

// A logEntry is a request that is being answered.
type logEntry struct {
	log *requestLog
	i   int
}

func (l *requestLog) begin(r Request) *logEntry {
	l.mu.Lock()
	defer l.mu.Unlock()
	r.Run = l.run
	l.requests = append(l.requests, r)
	return &logEntry{l, len(l.requests) - 1}
}

func (e *logEntry) setRule(i int) {
	e.log.mu.Lock()
	defer e.log.mu.Unlock()
	e.log.requests[e.i].Rule = i
}

func (e *logEntry) setStatus(status int) {
	e.log.mu.Lock()
	defer e.log.mu.Unlock()
	e.log.requests[e.i].Status = status
}

func (e *logEntry) sent(n int) {
	l := e.log
	l.mu.Lock()
	defer l.mu.Unlock()
	r := &l.requests[e.i]
	r.Sent += int64(n)
	if r.Status == 0 {
		r.Status = http.StatusOK
	}
	l.total += int64(n)
	l.watches = slices.DeleteFunc(l.watches, func(w watch) bool {
		if l.total < w.at {
			return false
		}
		close(w.reached)
		return true
	})
}

// newRequest returns the log's entry of a request.
func (s *Stage) newRequest(listener string, req *http.Request, body []byte) Request {
	return Request{
		At:       time.Since(s.start),
		Listener: listener,
		Method:   req.Method,
		URI:      req.RequestURI,
		Host:     req.Host,
		Header:   req.Header.Clone(),
		Body:     string(body),
		Secrets:  s.secretsIn(req, string(body)),
		Rule:     -1,
	}
}

// secretsIn names the secrets that are in a request.
func (s *Stage) secretsIn(req *http.Request, body string) []string {
	texts := []string{req.RequestURI, req.Host, body}
	for _, values := range req.Header {
		for _, v := range values {
			texts = append(texts, v)
			for _, word := range strings.Fields(v) {
				if plain, err := base64.StdEncoding.DecodeString(word); err == nil {
					texts = append(texts, string(plain))
				}
			}
		}
	}
	for _, t := range slices.Clone(texts) {
		if plain, err := url.QueryUnescape(t); err == nil {
			texts = append(texts, plain)
		}
	}
	var found []string
	for name, secret := range s.scenario.Secrets {
		if secret != "" && slices.ContainsFunc(texts, func(t string) bool { return strings.Contains(t, secret) }) {
			found = append(found, name)
		}
	}
	slices.Sort(found)
	return found
}
