package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
)

// serve serves the images of dir until stdin ends.
func serve(dir string, l link, stdin io.Reader, stdout io.Writer) error {
	signal.Ignore(os.Interrupt) // whoever started this ends it, by stdin
	h, err := newHandler(store{dir})
	if err != nil {
		return err
	}
	var listener net.Listener
	if listener, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		return err
	}
	fmt.Fprintln(stdout, listener.Addr())
	h.counter.out, h.counter.tell = stdout, l.tell
	if l.limits() {
		listener = &linkListener{Listener: listener, link: l, sent: h.counter.sent}
	}
	server := &http.Server{Handler: h, ConnState: h.counter.connState, ReadHeaderTimeout: time.Minute}
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(listener) }()
	lines := bufio.NewScanner(stdin)
	for lines.Scan() {
		if err := h.counter.answer(); err != nil {
			break
		}
	}
	err = errors.Join(lines.Err(), server.Close())
	if end := <-failed; !errors.Is(end, http.ErrServerClosed) {
		err = errors.Join(err, end)
	}
	return err
}

// A handler is a registry that can be read, with as little work a byte as
// possible: manifests from memory, blobs by sendfile where the connection is plain.
type handler struct {
	store   store
	tags    map[string]digest.Digest
	docs    map[digest.Digest]document
	counter counter
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
	path := strings.TrimPrefix(r.URL.Path, "/v2/")
	if path == "" {
		h.counter.asked(r.Method + " ping")
		return
	}
	if repository, name, ok := strings.Cut(path, "/manifests/"); ok {
		h.counter.asked(r.Method + " manifest")
		h.manifest(w, r, repository, name)
		return
	}
	if _, name, ok := strings.Cut(path, "/blobs/"); ok {
		h.counter.asked(r.Method + " blob")
		h.blob(w, r, digest.Digest(name))
		return
	}
	h.counter.asked(r.Method + " other")
	notFound(w, "UNSUPPORTED")
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
