package transfer_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/pullkit/pullkit/credentials"
	"github.com/pullkit/pullkit/puller"
	"github.com/pullkit/pullkit/puller/content"
	"github.com/pullkit/pullkit/puller/registry"
	"github.com/pullkit/pullkit/puller/transfer"
	"github.com/pullkit/pullkit/reference"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

type vector struct {
	Name             string
	Size             int
	PartialBytes     int  `json:"partial_bytes"`
	PartialIsCorrect bool `json:"partial_is_correct"`
	Stored           bool
	DescriptorData   string `json:"descriptor_data"`
	Hosts            []string
	Config           struct {
		MaxReconnects *int `json:"max_reconnects_without_progress"`
		MaxWaitMS     int  `json:"max_wait_ms"`
	}
	Script []step
	Want   struct {
		Result, Reason   string
		Requests         int
		BlobCommitted    bool     `json:"blob_committed"`
		PartialLeft      bool     `json:"partial_left"`
		WaitedMS         *int     `json:"waited_ms"`
		RetryAfterMS     int      `json:"retry_after_ms"`
		TokenRequests    *int     `json:"token_requests"`
		AuthorizationFor []string `json:"authorization_sent_to"`
	}
}

type step struct {
	Host   string
	Expect struct {
		Method   string
		Range    *string
		Headers  map[string]string
		NoHeader string `json:"no_header"`
	}
	Reply struct {
		Status        int
		Headers       map[string]string
		ContentRange  string `json:"content_range"`
		ContentLength *int64 `json:"content_length"`
		Body          []int
		BodyLength    int  `json:"body_length"`
		CutAfter      *int `json:"cut_after"`
		Corrupt       bool
		WriteError    string `json:"write_error"`
		CancelAfter   int    `json:"cancel_after"`
	}
}

// A registry.Client and a Runtime run together over a scripted transport.
func TestPublishedTransfersOfBlobs(t *testing.T) {
	data, err := os.ReadFile("testdata/vectors/transfer.json")
	require.NoError(t, err)
	var vectors []vector
	require.NoError(t, json.Unmarshal(data, &vectors))
	require.Len(t, vectors, 39)
	for _, v := range vectors {
		t.Run(v.Name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { v.run(t) })
		})
	}
}

func (v vector) run(t *testing.T) {
	blob := []byte("0123456789abcdef")[:v.Size]
	store := newMemStore()
	st := &scripted{t: t, v: v, blob: blob, host: map[string]string{
		"registry.example": "origin", "mirror.example": "mirror", "cdn.example": "cdn",
	}}
	desc := v.prepare(t, st, store)
	manifest, err := json.Marshal(ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest,
		Config: ocispec.DescriptorEmptyJSON, Layers: []ocispec.Descriptor{desc},
	})
	require.NoError(t, err)
	st.manifest = manifest

	settings := registry.Config{
		WrapTransport: func(http.RoundTripper) http.RoundTripper { return st },
		MaxWait:       time.Duration(v.Config.MaxWaitMS) * time.Millisecond,
	}
	if n := v.Config.MaxReconnects; n != nil {
		settings.Retries = *n
		if *n == 0 {
			settings.Retries = -1
		}
	}
	if slices.Contains(v.Hosts, "mirror") {
		settings.Registries = map[string]registry.Hosts{"registry.example": {Mirrors: []registry.Host{{URL: "https://mirror.example"}}}}
	}
	client, err := registry.New(settings)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	st.cancel = cancel
	request := spec(reference.MustParse(appName))
	request.Credential = credentials.Credential{Username: "user", Password: credentials.Conceal("password")}
	began := time.Now()
	_, err = newRuntime(t, transfer.Config{Source: client, Store: store}).Pull(ctx, request)
	v.judge(t, st, err, time.Since(began))

	store.clean(t)
	_, committed := store.blobs[desc.Digest]
	assert.Equal(t, v.Want.BlobCommitted, committed, "committed")
	_, left := store.partials[desc.Digest]
	assert.Equal(t, v.Want.PartialLeft, left, "partial left")
}

// prepare puts into the store what the case says is there, and describes the blob.
func (v vector) prepare(t *testing.T, st *scripted, store *memStore) ocispec.Descriptor {
	desc := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayer, Digest: digestOf(st.blob), Size: int64(v.Size)}
	switch v.DescriptorData {
	case "correct":
		desc.Data = st.blob
	case "wrong":
		desc.Data = []byte("9876543210")
	}
	if v.Stored {
		store.put(t, st.blob)
	}
	if v.PartialBytes > 0 {
		kept := append(slices.Clone(st.blob), "xxxx"...)[:v.PartialBytes]
		if !v.PartialIsCorrect {
			kept[1] ^= 1
		}
		store.keepAs(t, desc.Digest, kept, [2]int64{0, int64(len(kept))})
	}
	for _, s := range v.Script {
		if at, ok := strings.CutPrefix(s.Reply.WriteError, "ENOSPC at byte "); ok {
			n, err := strconv.Atoi(at)
			require.NoError(t, err)
			store.fullAt, store.fullFor = int64(n), desc.Digest
		}
	}
	return desc
}

func (v vector) judge(t *testing.T, st *scripted, err error, took time.Duration) {
	st.mu.Lock()
	defer st.mu.Unlock()
	assert.Equal(t, len(v.Script), st.next, "requests of the script that came")
	assert.Equal(t, v.Want.Requests, st.requests, "requests")
	if v.Want.Result == "ok" {
		require.NoError(t, err)
	} else {
		require.Error(t, err)
		v.judgeError(t, err)
	}
	if v.Want.WaitedMS != nil {
		assert.Equal(t, time.Duration(*v.Want.WaitedMS)*time.Millisecond, took, "waited")
	}
	if v.Want.TokenRequests != nil {
		assert.Equal(t, *v.Want.TokenRequests, st.tokens, "token requests")
	}
	if v.Want.AuthorizationFor != nil {
		assert.Equal(t, v.Want.AuthorizationFor, st.authorized, "Authorization was sent to")
	}
}

func (v vector) judgeError(t *testing.T, err error) {
	kinds := map[string]error{
		"DigestMismatch": content.ErrDigestMismatch, "SizeMismatch": content.ErrSizeMismatch,
		"NotFound": content.ErrNotFound, "Unauthorized": content.ErrUnauthorized, "RateLimited": content.ErrRateLimited,
		"DiskFull": content.ErrNoSpace, "Canceled": context.Canceled,
	}
	if want, ok := kinds[v.Want.Reason]; ok {
		require.ErrorIs(t, err, want)
	} else {
		require.Equal(t, "ErrImagePull", v.Want.Reason)
		for name, kind := range kinds {
			assert.NotErrorIs(t, err, kind, "is %s", name)
		}
	}
	if v.Want.RetryAfterMS > 0 {
		var retry *puller.RetryError
		require.ErrorAs(t, err, &retry)
		assert.Equal(t, time.Duration(v.Want.RetryAfterMS)*time.Millisecond, retry.After)
	}
}

// A scripted transport answers for all hosts. The manifest is not a part of the script. It is
// given for a token, so that there is one for the blob.
type scripted struct {
	t        *testing.T
	v        vector
	blob     []byte
	manifest []byte
	host     map[string]string
	cancel   context.CancelFunc

	mu         sync.Mutex
	next       int // of the script
	requests   int
	issued     int
	tokens     int // requests for a token after the script began
	authorized []string
}

func (s *scripted) RoundTrip(r *http.Request) (*http.Response, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	host, path := s.host[r.URL.Host], r.URL.Path
	switch {
	case path == "/token":
		s.issued++
		if s.next > 0 {
			s.tokens++
		}
		return s.answer(r, 200, nil, []byte(fmt.Sprintf(`{"token":"t%d"}`, s.issued))), nil
	case strings.Contains(path, "/manifests/"):
		if host == "origin" && r.Header.Get("Authorization") == "" {
			h := http.Header{"Www-Authenticate": {`Bearer realm="https://registry.example/token",service="s",scope="repository:team/app:pull"`}}
			return s.answer(r, 401, h, nil), nil
		}
		return s.answer(r, 200, http.Header{"Content-Type": {ocispec.MediaTypeImageManifest}}, s.manifest), nil
	}
	return s.scripted(r, host)
}

func (s *scripted) scripted(r *http.Request, host string) (*http.Response, error) {
	s.requests++
	if s.next == len(s.v.Script) {
		s.t.Errorf("a request beyond the script: %s %s %v", r.Method, r.URL, r.Header)
		return s.answer(r, 500, nil, nil), nil
	}
	if r.Header.Get("Authorization") != "" && !slices.Contains(s.authorized, host) {
		s.authorized = append(s.authorized, host)
	}
	st := s.v.Script[s.next]
	s.next++
	assert.Equal(s.t, st.Host, host, "request %d", s.next)
	assert.Equal(s.t, st.Expect.Method, r.Method, "request %d", s.next)
	want := ""
	if st.Expect.Range != nil {
		want = *st.Expect.Range
	}
	if strings.HasSuffix(want, "-") { // up to the end of the blob, which the request names
		want += strconv.Itoa(s.v.Size - 1)
	}
	assert.Equal(s.t, want, r.Header.Get("Range"), "request %d", s.next)
	for k, want := range st.Expect.Headers {
		assert.Equal(s.t, want, r.Header.Get(k), "request %d: %s", s.next, k)
	}
	if h := st.Expect.NoHeader; h != "" {
		assert.Empty(s.t, r.Header.Get(h), "request %d: %s", s.next, h)
	}
	return s.reply(r, st), nil
}

func (s *scripted) reply(r *http.Request, st step) *http.Response {
	header := http.Header{}
	for k, val := range st.Reply.Headers {
		val = strings.ReplaceAll(val, "{auth}", "https://registry.example/token")
		val = strings.ReplaceAll(val, "{cdn}", "https://cdn.example")
		val = strings.ReplaceAll(val, "{now+30s as HTTP date}", time.Now().Add(30*time.Second).UTC().Format(http.TimeFormat))
		header.Set(k, val)
	}
	if st.Reply.ContentRange != "" {
		header.Set("Content-Range", st.Reply.ContentRange)
	}
	var body []byte
	switch {
	case st.Reply.Body != nil:
		body = slices.Clone(s.blob[st.Reply.Body[0] : st.Reply.Body[1]+1])
	case st.Reply.BodyLength > 0:
		body = append(slices.Clone(s.blob), make([]byte, st.Reply.BodyLength-len(s.blob))...)
	}
	if st.Reply.Corrupt {
		body[0] ^= 1
	}
	res := s.answer(r, st.Reply.Status, header, body)
	if n := st.Reply.ContentLength; n != nil {
		res.ContentLength = *n
		res.Header.Set("Content-Length", strconv.FormatInt(*n, 10))
	}
	switch {
	case st.Reply.CutAfter != nil:
		res.Body = io.NopCloser(io.MultiReader(strings.NewReader(string(body[:*st.Reply.CutAfter])), errReader{errors.New("connection reset by peer")}))
	case st.Reply.CancelAfter > 0:
		hang := readFunc(func([]byte) (int, error) { s.cancel(); <-r.Context().Done(); return 0, r.Context().Err() })
		res.Body = io.NopCloser(io.MultiReader(strings.NewReader(string(body[:st.Reply.CancelAfter])), hang))
	}
	return res
}

func (s *scripted) answer(r *http.Request, status int, header http.Header, body []byte) *http.Response {
	if header == nil {
		header = http.Header{}
	}
	header.Set("Content-Length", strconv.Itoa(len(body)))
	return &http.Response{
		Status: strconv.Itoa(status), StatusCode: status, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: header, ContentLength: int64(len(body)), Body: io.NopCloser(strings.NewReader(string(body))), Request: r,
	}
}

type readFunc func([]byte) (int, error)

func (f readFunc) Read(p []byte) (int, error) { return f(p) }
