package scripted

import (
	"cmp"
	"context"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/pullkit/pullkit/internal/fakeregistry"
	"github.com/pullkit/pullkit/puller/pullertest"
)

// A Stage is a scripted registry that plays one Scenario. It has four
// listeners, which placeholders name:
//
//   - main: plain http on 127.0.0.1
//   - tls: https on 127.0.0.1
//   - port: plain http on 127.0.0.1, another port
//   - second: plain http on 127.0.0.2, another host (or on ::1 on a system without
//     127.0.0.2)
//
// Its methods may be called concurrently.
type Stage struct {
	scenario Scenario
	network  *pullertest.Network
	names    placeholders
	rules    []*compiledRule
	ca       []byte
	log      requestLog
	start    time.Time

	servers []*http.Server
	served  sync.WaitGroup // the servers, and the answers being given
	quit    chan struct{}

	mu     sync.Mutex
	closed bool
	taken  map[net.Conn]bool // hijacked connections, which net/http does not close
}

// Play starts the scripted registry of a scenario in a network in memory, or on sockets if
// network is nil.
func Play(sc Scenario, network *pullertest.Network) (*Stage, error) {
	s := &Stage{scenario: sc, network: network, start: time.Now(), quit: make(chan struct{}), taken: map[net.Conn]bool{}}
	s.names.listeners = map[string]string{}
	if err := s.listen(); err != nil {
		_ = s.Close()
		return nil, fmt.Errorf("scenario %q: %w", sc.Name, err)
	}
	return s, nil
}

func (s *Stage) listen() error {
	listeners := map[string]net.Listener{}
	defer func() {
		for _, ln := range listeners { // the listeners that no server has taken over
			_ = ln.Close()
		}
	}()
	for _, at := range []struct{ name, addr string }{
		{"main", "127.0.0.1:0"}, {"tls", "127.0.0.1:0"}, {"port", "127.0.0.1:0"}, {"second", "127.0.0.2:0"},
	} {
		ln, err := listen(s.network, at.addr)
		if err != nil && at.name == "second" {
			ln, err = listen(s.network, "[::1]:0")
		}
		if err != nil {
			return err
		}
		listeners[at.name] = ln
		s.names.listeners[at.name] = ln.Addr().String()
	}
	objects := s.scenario.Objects
	if len(objects) == 0 {
		objects = standardObjects()
	}
	if err := s.names.build(objects); err != nil {
		return err
	}
	for i, r := range s.scenario.Rules {
		compiled, err := compileRule(r, s.names.fill)
		if err != nil {
			return fmt.Errorf("rule %d: %w", i, err)
		}
		s.rules = append(s.rules, compiled)
	}
	cert, ca, err := fakeregistry.ServerCertificate("127.0.0.1")
	if err != nil {
		return err
	}
	s.ca = ca
	for name, ln := range listeners {
		if name == "tls" {
			// Only HTTP/1.1, because rules write the bytes of their answers.
			ln = tls.NewListener(ln, &tls.Config{Certificates: []tls.Certificate{cert}, NextProtos: []string{"http/1.1"}})
		}
		s.serve(name, ln)
		delete(listeners, name)
	}
	return nil
}

func listen(network *pullertest.Network, addr string) (net.Listener, error) {
	if network != nil {
		return network.Listen(addr)
	}
	var lc net.ListenConfig
	return lc.Listen(context.Background(), "tcp", addr)
}

func (s *Stage) serve(name string, ln net.Listener) {
	server := &http.Server{
		Handler:           http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) { s.handle(name, w, req) }),
		ErrorLog:          log.New(io.Discard, "", 0),
		ReadHeaderTimeout: time.Minute,
	}
	s.servers = append(s.servers, server)
	// The error of Serve always says that the server was closed.
	s.served.Go(func() { _ = server.Serve(ln) })
}

// Close ends the registry. It does not wait for the end of answers.
func (s *Stage) Close() error {
	s.mu.Lock()
	if !s.closed {
		s.closed = true
		close(s.quit)
	}
	for conn := range s.taken {
		_ = conn.Close()
	}
	s.mu.Unlock()
	var first error
	for _, server := range s.servers {
		first = cmp.Or(first, server.Close())
	}
	s.served.Wait()
	return first
}

// Fill replaces the placeholders in a text: {{main}}, {{tls}}, {{port}} and
// {{second}} give host:port, {{digest:ID}}, {{digest512:ID}}, {{hex:ID}},
// {{size:ID}} and {{raw:ID}} describe an object, {{pad:N}} gives N letters and
// {{basic:TEXT}} base64. Other text stays as it is.
func (s *Stage) Fill(text string) string { return s.names.fill(text) }

// Image returns the name to pull.
func (s *Stage) Image() string { return s.Fill(cmp.Or(s.scenario.Image, "{{main}}/team/app:v1")) }

// Platform returns the platform to pull, as os/architecture.
func (s *Stage) Platform() string { return cmp.Or(s.scenario.Platform, "linux/amd64") }

// CA returns the PEM certificate of the authority of the tls listener; nil if the puller
// must not get it.
func (s *Stage) CA() []byte {
	if s.scenario.NoCA {
		return nil
	}
	return s.ca
}

// ConfigJSON returns the config.json with the scenario's credentials.
func (s *Stage) ConfigJSON() ([]byte, error) {
	type entry struct {
		Auth          string `json:"auth,omitempty"`
		IdentityToken string `json:"identitytoken,omitempty"`
	}
	auths := map[string]entry{}
	for _, c := range s.scenario.Credentials {
		e := entry{IdentityToken: c.IdentityToken}
		if c.Username != "" {
			e.Auth = base64.StdEncoding.EncodeToString([]byte(c.Username + ":" + c.Password))
		}
		auths[s.Fill(c.Key)] = e
	}
	return json.MarshalIndent(map[string]any{"auths": auths}, "", "  ")
}

// handle answers a request by the first rule that matches. If no rule matches, it answers
// as a well-behaved registry does.
func (s *Stage) handle(listener string, w http.ResponseWriter, req *http.Request) {
	if !s.enter() {
		panic(http.ErrAbortHandler) // the connection ends without an answer
	}
	defer s.served.Done()
	body, _ := io.ReadAll(io.LimitReader(req.Body, 64<<10)) // a body that ends early is logged as far as it came
	entry := s.log.begin(s.newRequest(listener, req, body))
	for i, r := range s.rules {
		if !r.matches(listener, req) || !r.turn() {
			continue
		}
		if r.respond.Default {
			break
		}
		entry.setRule(i)
		s.answer(r.respond, &loggingWriter{ResponseWriter: w, entry: entry}, req)
		return
	}
	s.behave(listener, &loggingWriter{ResponseWriter: w, entry: entry}, req, body)
}

// enter counts an answer that begins. It returns false after the registry was closed.
func (s *Stage) enter() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closed {
		s.served.Add(1)
	}
	return !s.closed
}

// take notes a hijacked connection, so that Close closes it. release closes it earlier.
func (s *Stage) take(conn net.Conn) (release func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.taken[conn] = true
	if s.closed {
		_ = conn.Close()
	}
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.taken, conn)
		_ = conn.Close()
	}
}

// A loggingWriter logs the status and the size of an answer.
type loggingWriter struct {
	http.ResponseWriter
	entry *logEntry
}

func (w *loggingWriter) WriteHeader(status int) {
	w.entry.setStatus(status)
	w.ResponseWriter.WriteHeader(status)
}

func (w *loggingWriter) Write(p []byte) (int, error) {
	n, err := w.ResponseWriter.Write(p)
	w.entry.sent(n)
	return n, err
}

// behave answers as a well-behaved registry does. Every repository has all objects of the
// scenario.
func (s *Stage) behave(listener string, w http.ResponseWriter, req *http.Request, body []byte) {
	if (listener == "port" || listener == "second") && !s.scenario.SecondServes {
		fakeregistry.WriteError(w, 404, "NAME_UNKNOWN", "nothing is served here", "")
		return
	}
	var auth Auth
	if s.scenario.Auth != nil {
		auth = *s.scenario.Auth
	}
	what := fakeregistry.ParsePath(req.URL.Path)
	if what.Kind == fakeregistry.Token {
		s.giveToken(auth, w, req, body)
		return
	}
	if challenge := s.challenge(auth, listener, req); challenge != "" {
		fakeregistry.WriteError(w, 401, "UNAUTHORIZED", "authentication required", challenge)
		return
	}
	switch what.Kind {
	case fakeregistry.Root:
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write([]byte("{}"))
	case fakeregistry.Manifest:
		if m, ok := s.manifest(what.Ref); ok {
			m.Serve(w, req)
			return
		}
		fakeregistry.WriteError(w, 404, "MANIFEST_UNKNOWN", "manifest unknown", "")
	case fakeregistry.Blob:
		if m, ok := s.names.find(what.Ref); ok {
			m.MediaType = "application/octet-stream"
			m.Serve(w, req)
			return
		}
		fakeregistry.WriteError(w, 404, "BLOB_UNKNOWN", "blob unknown to registry", "")
	default:
		fakeregistry.WriteError(w, 404, "UNSUPPORTED", "no such address", "")
	}
}

// manifest finds an object by tag or digest.
func (s *Stage) manifest(ref string) (servedObject, bool) {
	id, ok := s.scenario.Tags[ref]
	if len(s.scenario.Tags) == 0 && ref == "v1" {
		id, ok = "m", true
	}
	if !ok {
		return s.names.find(ref)
	}
	m, ok := s.names.objects[id]
	return m, ok
}

func (s *Stage) giveToken(auth Auth, w http.ResponseWriter, req *http.Request, body []byte) {
	user, pass, _ := req.BasicAuth()
	if form, err := url.ParseQuery(string(body)); req.Method == http.MethodPost && err == nil && form.Has("username") {
		user, pass = form.Get("username"), form.Get("password")
	}
	if auth.User != "" && (user != auth.User || pass != auth.Pass) {
		fakeregistry.WriteError(w, 401, "UNAUTHORIZED", "incorrect username or password", "")
		return
	}
	token := cmp.Or(auth.Token, "tok")
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(map[string]any{"token": token, "access_token": token, "expires_in": 300})
}

// challenge is the WWW-Authenticate header for a request without the right credential. ""
// means that the request is allowed.
func (s *Stage) challenge(auth Auth, listener string, req *http.Request) string {
	switch auth.Mode {
	case "basic":
		user, pass, ok := req.BasicAuth()
		if ok && user == auth.User && pass == auth.Pass {
			return ""
		}
		return `Basic realm="hostile"`
	case "bearer":
		if req.Header.Get("Authorization") == "Bearer "+auth.Token {
			return ""
		}
		scheme := "http"
		if listener == "tls" {
			scheme = "https"
		}
		realm := s.Fill(cmp.Or(auth.Realm, scheme+"://{{"+listener+"}}/token"))
		return fmt.Sprintf(`Bearer realm="%s",service="hostile",scope="repository:team/app:pull"`, realm)
	}
	return ""
}
