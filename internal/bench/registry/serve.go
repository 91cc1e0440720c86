package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/pullkit/pullkit/internal/bench/wan"
)

// A setup has the settings of a registry. The zero setup uses plain http on loopback.
type setup struct {
	link
	tls      bool      // for the registry, its token server and its storage
	tokens   bool      // each request needs a token of another server
	redirect bool      // blobs are at another host, with signed URLs
	wan      *wan.Link // between clients and all servers, nil = none
}

// serve serves the images of dir until stdin ends.
func serve(dir string, conf setup, stdin io.Reader, stdout io.Writer) error {
	signal.Ignore(os.Interrupt) // the program that has started this one ends it, by stdin
	h, err := newHandler(store{dir})
	if err != nil {
		return err
	}
	h.counter.out, h.counter.tell = stdout, conf.tell
	if conf.wan != nil {
		h.counter.roundTrip = conf.wan.RoundTrip()
	}
	s := servers{setup: conf, dir: dir, sent: h.counter.sent}
	defer s.close()
	if conf.tokens {
		h.issuer = &issuer{counter: &h.counter, tokens: map[string][]string{}}
		origin, err := s.serve("localhost", &http.Server{Handler: h.issuer})
		if err != nil {
			return err
		}
		h.issuer.realm = origin + "/token"
	}
	if conf.redirect {
		h.storage = newStorage("", h)
		if h.storage.origin, err = s.serve("localhost", &http.Server{Handler: h.storage}); err != nil {
			return err
		}
	}
	name := "127.0.0.1"
	if conf.tokens {
		name = "localhost" // some clients refuse a token server of loopback if the registry has another name
	}
	origin, err := s.serve(name, &http.Server{Handler: h, ConnState: h.counter.connState})
	if err != nil {
		return err
	}
	_, host, _ := strings.Cut(origin, "://")
	fmt.Fprintln(stdout, host)
	lines := bufio.NewScanner(stdin)
	for lines.Scan() {
		if err := h.counter.answer(); err != nil {
			break
		}
	}
	return errors.Join(lines.Err(), s.close())
}

// A handler is a registry for pulling only. It does as little work for each byte as possible:
// it sends manifests from memory, and blobs by sendfile if the connection is plain.
type handler struct {
	store   store
	tags    map[string]digest.Digest
	docs    map[digest.Digest]document
	counter counter
	issuer  *issuer  // nil = no request needs a token
	storage *storage // nil = the registry itself serves blobs
}

type document struct {
	mediaType string
	body      []byte
}

func newHandler(s store) (*handler, error) {
	c, err := s.load()
	if err != nil {
		return nil, err
	}
	h := &handler{store: s, tags: c.Tags, docs: map[digest.Digest]document{}}
	for d, mediaType := range c.Manifests {
		body, err := os.ReadFile(s.path(d))
		if err != nil {
			return nil, err
		}
		h.docs[d] = document{mediaType, body}
	}
	return h, nil
}

func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	kind, repository, name := split(r.URL.Path)
	if h.issuer != nil && !h.issuer.admits(r, repository) {
		h.counter.asked("refused "+r.Method+" "+kind, repository)
		h.issuer.refuse(w, repository)
		return
	}
	h.counter.asked(r.Method+" "+kind, repository)
	switch kind {
	case "ping":
	case "manifest":
		h.manifest(w, r, repository, name)
	case "blob":
		if d := digest.Digest(name); h.storage != nil && d.Validate() == nil {
			http.Redirect(w, r, h.storage.sign(d), http.StatusTemporaryRedirect)
			return
		}
		h.blob(w, r, digest.Digest(name))
	default:
		notFound(w, "UNSUPPORTED")
	}
}

// split splits a path into what the request is for, the repository, and the name there.
func split(path string) (kind, repository, name string) {
	path = strings.TrimPrefix(path, "/v2/")
	if path == "" {
		return "ping", "", ""
	}
	if repository, name, ok := strings.Cut(path, "/manifests/"); ok {
		return "manifest", repository, name
	}
	if repository, name, ok := strings.Cut(path, "/blobs/"); ok {
		return "blob", repository, name
	}
	return "other", "", ""
}

func (h *handler) manifest(w http.ResponseWriter, r *http.Request, repository, name string) {
	d, ok := h.tags[repository+":"+name]
	if !ok {
		d = digest.Digest(name)
	}
	doc, ok := h.docs[d]
	if !ok {
		notFound(w, "MANIFEST_UNKNOWN")
		return
	}
	h.content(w, r, d, doc.mediaType, bytes.NewReader(doc.body))
}

func (h *handler) blob(w http.ResponseWriter, r *http.Request, d digest.Digest) {
	if d.Validate() != nil {
		notFound(w, "DIGEST_INVALID")
		return
	}
	f, err := os.Open(h.store.path(d))
	if err != nil {
		notFound(w, "BLOB_UNKNOWN")
		return
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		http.Error(w, "stat", http.StatusInternalServerError)
		return
	}
	h.counter.askedBlob(d, info.Size(), r.RemoteAddr)
	h.content(w, r, d, "application/octet-stream", f)
}

func (h *handler) content(w http.ResponseWriter, r *http.Request, d digest.Digest, mediaType string, body io.ReadSeeker) {
	w.Header().Set("Content-Type", mediaType)
	w.Header().Set("Docker-Content-Digest", d.String())
	w.Header().Set("ETag", `"`+d.String()+`"`)
	http.ServeContent(w, r, "", time.Time{}, body)
}

func notFound(w http.ResponseWriter, code string) {
	http.Error(w, `{"errors":[{"code":"`+code+`"}]}`, http.StatusNotFound)
}
