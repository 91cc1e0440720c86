package main

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
)

// signedLife is how long a signed URL may be used.
const signedLife = 10 * time.Minute

// A storage serves a blob only for a URL that it has signed, as the object stores behind
// registries do.
type storage struct {
	origin string
	key    []byte
	h      *handler
}

func newStorage(origin string, h *handler) *storage { return &storage{origin, []byte(rand.Text()), h} }

// sign returns a URL of a blob.
func (s *storage) sign(d digest.Digest) string {
	until := strconv.FormatInt(time.Now().Add(signedLife).Unix(), 10)
	query := url.Values{"Expires": {until}, "Signature": {s.signature(d, until)}}
	return s.origin + "/" + d.String() + "?" + query.Encode()
}

func (s *storage) signature(d digest.Digest, until string) string {
	mac := hmac.New(sha256.New, s.key)
	mac.Write([]byte(d.String() + " " + until))
	return hex.EncodeToString(mac.Sum(nil))
}

func (s *storage) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.h.counter.asked(r.Method+" storage", "")
	d := digest.Digest(strings.TrimPrefix(r.URL.Path, "/"))
	query := r.URL.Query()
	until, err := strconv.ParseInt(query.Get("Expires"), 10, 64)
	signed := hmac.Equal([]byte(query.Get("Signature")), []byte(s.signature(d, query.Get("Expires"))))
	if err != nil || !signed || time.Now().After(time.Unix(until, 0)) || r.Header.Get("Authorization") != "" {
		http.Error(w, "forbidden", http.StatusForbidden)
		return
	}
	s.h.blob(w, r, d)
}
