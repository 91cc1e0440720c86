package registry_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pullkit/pullkit/internal/verify"
	"github.com/pullkit/pullkit/puller/content"
	"github.com/pullkit/pullkit/puller/registry"
	"github.com/pullkit/pullkit/reference"
)

// A transferCase is one row of transfer.json.
type transferCase struct {
	Name             string
	Tags             []string
	Size             int64
	PartialBytes     int64 `json:"partial_bytes"`
	PartialIsCorrect bool  `json:"partial_is_correct"`
	Hosts            []string
	Config           struct {
		Reconnects *int `json:"max_reconnects_without_progress"`
		MaxWait    int  `json:"max_wait_ms"`
	}
	Script []transferStep
	Want   struct {
		Result, Reason string
		Requests       int
		PartialLeft    bool     `json:"partial_left"`
		WaitedMS       *int     `json:"waited_ms"`
		RetryAfterMS   int      `json:"retry_after_ms"`
		TokenRequests  *int     `json:"token_requests"`
		AuthSentTo     []string `json:"authorization_sent_to"`
	}
}

type transferStep struct {
	Host   string
	Expect struct {
		Method   string
		Range    json.RawMessage // if absent, the header is not checked; null means that there is none
		Headers  map[string]string
		NoHeader string `json:"no_header"`
	}
	Reply struct {
		Status        int
		Headers       map[string]string
		ContentRange  string `json:"content_range"`
		ContentLength *int64 `json:"content_length"`
		Body          []int64
		BodyLength    int64  `json:"body_length"`
		CutAfter      *int64 `json:"cut_after"`
		Corrupt       bool
		CancelAfter   int64  `json:"cancel_after"`
		WriteError    string `json:"write_error"`
	}
}

// notOurs has the rows that do not concern the client, because package transfer decides
// them, and the reasons.
var notOurs = map[string]string{
	"blob already stored: no request":                                       "the store is transfer's",
	"descriptor carries the right data: no request":                         "the descriptor's data is transfer's",
	"disk full while writing: no retry, nothing left":                       "the disk is transfer's",
	"complete but uncommitted partial: verify and commit without a request": "no request is needed",
}

// The function fetch is in place of package transfer.
func TestPublishedTransfersOfBlobs(t *testing.T) {
	data, err := os.ReadFile("testdata/vectors/transfer.json")
	require.NoError(t, err)
	var cases []transferCase
	require.NoError(t, json.Unmarshal(data, &cases))
	ran := 0
	for _, tc := range cases {
		if notOurs[tc.Name] != "" {
			continue
		}
		ran++
		t.Run(tc.Name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { runTransfer(t, tc) })
		})
	}
	assert.Equal(t, len(cases)-len(notOurs), ran)
	assert.Equal(t, 39, len(cases))
}

func runTransfer(t *testing.T, tc transferCase) {
	blob := make([]byte, tc.Size)
	_, err := io.ReadFull(rand.NewChaCha8([32]byte{1}), blob)
	require.NoError(t, err)
	desc := ocispec.Descriptor{Digest: digest.Digest(fmt.Sprintf("sha256:%x", sha256.Sum256(blob))), Size: tc.Size}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	s := &scriptedHosts{t: t, tc: tc, blob: blob, cancel: cancel}
	ref := reference.MustParse("origin.example/team/app:v1")
	cfg := registry.Config{WrapTransport: instead(s), MaxWait: time.Duration(tc.Config.MaxWait) * time.Millisecond}
	if slices.Contains(tc.Hosts, "mirror") {
		cfg.Registries = map[string]registry.Hosts{"origin.example": {Mirrors: []registry.Host{{URL: "https://mirror.example"}}}}
	}
	if n := tc.Config.Reconnects; n != nil {
		cfg.Retries = *n
		if *n == 0 {
			cfg.Retries = -1
		}
	}
	c := newClient(t, cfg)
	cred := noCredential
	if slices.Contains(tc.Tags, "auth") {
		cred = robot
		_, err := c.Manifest(ctx, content.Repo{Ref: ref, Cred: cred}, "") // fetches a token
		require.ErrorIs(t, err, content.ErrNotFound)
	}
	s.started, s.tokens = true, 0

	have := slices.Clone(blob[:min(tc.PartialBytes, tc.Size)])
	if !tc.PartialIsCorrect {
		have[0] ^= 1
	}
	if tc.PartialBytes > tc.Size {
		have = nil
	}
	began := time.Now()
	left, err := fetch(ctx, c, content.Repo{Ref: ref, Cred: cred}, desc, have)
	if tc.Want.Result == "ok" {
		assert.NoError(t, err)
	} else {
		require.Error(t, err)
		assert.Equal(t, tc.Want.PartialLeft, len(left) > 0, "bytes are kept")
	}
	switch tc.Want.Reason {
	case "", "ErrImagePull":
	case "DigestMismatch":
		assert.ErrorIs(t, err, content.ErrDigestMismatch)
	case "SizeMismatch":
		assert.ErrorIs(t, err, content.ErrSizeMismatch)
	case "RateLimited":
		assert.ErrorIs(t, err, content.ErrRateLimited)
		var e *content.Error
		require.ErrorAs(t, err, &e)
		assert.Equal(t, tc.Want.RetryAfterMS, int(e.RetryAfter.Milliseconds()))
	case "NotFound":
		assert.ErrorIs(t, err, content.ErrNotFound)
	case "Unauthorized":
		assert.ErrorIs(t, err, content.ErrUnauthorized)
	case "Canceled":
		assert.ErrorIs(t, err, context.Canceled)
	default:
		t.Errorf("unknown reason %q", tc.Want.Reason)
	}
	assert.Equal(t, tc.Want.Requests, s.next)
	if tc.Want.WaitedMS != nil {
		assert.Equal(t, *tc.Want.WaitedMS, int(time.Since(began).Milliseconds()))
	}
	if tc.Want.TokenRequests != nil {
		assert.Equal(t, *tc.Want.TokenRequests, s.tokens)
	}
	if tc.Want.AuthSentTo != nil {
		assert.Equal(t, tc.Want.AuthSentTo, s.authorized)
	}
	if err != nil {
		assert.NotContains(t, err.Error(), "s3cret-pass")
	}
}

// fetch fetches a blob as package transfer does: it keeps the bytes that have arrived, and
// starts again if the body's Reject reports that this can help.
func fetch(ctx context.Context, c *registry.Client, repo content.Repo, desc ocispec.Descriptor, have []byte) (left []byte, err error) {
	if int64(len(have)) == desc.Size && !verify.Bytes(desc.Digest, have) {
		have = nil // the bytes of an earlier process are complete, but wrong
	}
	for {
		body, err := c.Blob(ctx, repo, desc, int64(len(have)), -1)
		if err != nil {
			return have, err
		}
		rest, err := io.ReadAll(body)
		have = append(have[:body.Start], rest...)
		err = errors.Join(err, body.Close())
		switch {
		case errors.Is(err, content.ErrSizeMismatch):
			return nil, err
		case err != nil:
			return have, err
		case verify.Bytes(desc.Digest, have):
			return have, nil
		}
		have = nil
		if !body.Reject() {
			return nil, content.ErrDigestMismatch
		}
	}
}

// A scriptedHosts is a transport that answers by the script of a transferCase.
type scriptedHosts struct {
	t      *testing.T
	tc     transferCase
	blob   []byte
	cancel func()

	mu         sync.Mutex
	started    bool
	next       int
	tokens     int
	authorized []string
}

func (s *scriptedHosts) RoundTrip(req *http.Request) (*http.Response, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	host := strings.TrimSuffix(req.URL.Host, ".example")
	resp := &http.Response{StatusCode: 200, Header: http.Header{}, Body: http.NoBody, ContentLength: 0, Request: req}
	if req.URL.Path == "/token" {
		s.tokens++
		text := `{"token":"token-` + fmt.Sprint(s.tokens) + `"}`
		resp.Body, resp.ContentLength = io.NopCloser(strings.NewReader(text)), int64(len(text))
		return resp, nil
	}
	if req.Header.Get("Authorization") != "" && !slices.Contains(s.authorized, host) {
		s.authorized = append(s.authorized, host)
	}
	if !s.started {
		resp.StatusCode = 404
		if req.Header.Get("Authorization") == "" {
			resp.StatusCode = 401
			resp.Header.Set("WWW-Authenticate", `Bearer realm="https://origin.example/token"`)
		}
		return resp, nil
	}
	if s.next >= len(s.tc.Script) {
		s.t.Errorf("request %d is beyond the script: %s %s %v", s.next+1, req.Method, req.URL, req.Header)
		return nil, errors.New("beyond the script")
	}
	step := s.tc.Script[s.next]
	s.next++
	assert.Equal(s.t, step.Host, host, "host of request %d", s.next)
	assert.Equal(s.t, step.Expect.Method, req.Method)
	var wantRange *string
	if step.Expect.Range != nil {
		require.NoError(s.t, json.Unmarshal(step.Expect.Range, &wantRange))
		if wantRange == nil {
			assert.NotContains(s.t, req.Header, "Range", "request %d", s.next)
		} else {
			want := *wantRange
			if strings.HasSuffix(want, "-") { // the script means the end of the blob, which the client writes as a number
				want += strconv.FormatInt(s.tc.Size-1, 10)
			}
			assert.Equal(s.t, want, req.Header.Get("Range"), "request %d", s.next)
		}
	}
	for name, value := range step.Expect.Headers {
		assert.Equal(s.t, value, req.Header.Get(name))
	}
	if step.Expect.NoHeader != "" {
		assert.Empty(s.t, req.Header.Values(step.Expect.NoHeader))
	}
	s.reply(resp, step)
	return resp, nil
}

func (s *scriptedHosts) reply(resp *http.Response, step transferStep) {
	r := step.Reply
	resp.StatusCode = r.Status
	for name, value := range r.Headers {
		value = strings.ReplaceAll(value, "{auth}", "https://origin.example/token")
		value = strings.ReplaceAll(value, "{cdn}", "https://cdn.example")
		value = strings.ReplaceAll(value, "{now+30s as HTTP date}", time.Now().Add(30*time.Second).UTC().Format(http.TimeFormat))
		resp.Header.Set(name, value)
	}
	if r.ContentRange != "" {
		resp.Header.Set("Content-Range", r.ContentRange)
	}
	var body []byte
	if r.Body != nil {
		body = slices.Clone(s.blob[r.Body[0] : r.Body[1]+1])
	}
	if r.BodyLength > 0 {
		body = append(slices.Clone(s.blob), make([]byte, r.BodyLength-s.tc.Size)...)
	}
	if r.Corrupt {
		body[0] ^= 1
	}
	resp.ContentLength = int64(len(body))
	if r.ContentLength != nil {
		resp.ContentLength = *r.ContentLength
	}
	end := error(io.EOF)
	if resp.ContentLength > int64(len(body)) {
		end = io.ErrUnexpectedEOF // as in net/http
	}
	if r.CutAfter != nil {
		body, end = body[:*r.CutAfter], errors.New("connection reset by peer")
	}
	if r.CancelAfter > 0 {
		body, end = body[:r.CancelAfter], context.Canceled
	}
	resp.Body = &scriptedBody{Reader: bytes.NewReader(body), end: end, atEnd: func() {
		if r.CancelAfter > 0 {
			s.cancel()
		}
	}}
}

type scriptedBody struct {
	*bytes.Reader
	end   error
	atEnd func()
}

func (b *scriptedBody) Read(p []byte) (int, error) {
	n, err := b.Reader.Read(p)
	if err == io.EOF {
		b.atEnd()
		return n, b.end
	}
	return n, err
}

func (b *scriptedBody) Close() error { return nil }
