package scripted

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pullkit/pullkit/internal/fakeregistry"
	"github.com/pullkit/pullkit/puller/content"
	"github.com/pullkit/pullkit/puller/pullertest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// request sends one request to a job's registry.
func request(ctx context.Context, job Job, method, url string, header ...string) error {
	transport := &http.Transport{DialContext: job.Dial}
	defer transport.CloseIdleConnections()
	req, err := http.NewRequestWithContext(ctx, method, url, nil)
	if err != nil {
		return err
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := transport.RoundTrip(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, resp.Body)
	return err
}

// wait waits for d, or until ctx ends.
func wait(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// store writes a file into a job's working directory.
func store(job Job, path, text string) error {
	path = filepath.Join(job.Box, path)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(path, []byte(text), 0o600)
}

func blobPath(text string) string {
	return "store/blobs/sha256/" + fakeregistry.SHA256([]byte(text)).Encoded()
}

func TestTheJudgeFindsEachFault(t *testing.T) {
	type pull = func(ctx context.Context, job Job) error
	fine := func(context.Context, Job) error { return nil }
	text := []Object{{ID: "x", Gen: "text", Text: "x"}}
	for name, tt := range map[string]struct {
		sc    Scenario
		pull  pull
		wrong string // part of the error; "" means none
	}{
		"fine":                 {sc: expect(Expect{Outcome: "ok"}), pull: fine},
		"any":                  {sc: expect(Expect{Outcome: "any"}), pull: fine},
		"no success":           {sc: expect(Expect{Outcome: "ok"}), pull: fails(errors.New("no")), wrong: "success expected: no"},
		"no failure":           {sc: expect(Expect{Outcome: "fail"}), pull: fine, wrong: "failure expected"},
		"kind":                 {sc: expect(Expect{Outcome: "fail", Kind: "bad_manifest"}), pull: fails(content.ErrBadManifest)},
		"other kind of a pair": {sc: expect(Expect{Outcome: "fail", Kind: "network"}), pull: fails(content.ErrSizeMismatch)},
		"wrong kind":           {sc: expect(Expect{Outcome: "fail", Kind: "network"}), pull: fails(content.ErrTLS), wrong: `the kind "TLS failure", expected "network"`},
		"hang": {
			sc:    expect(Expect{Outcome: "any"}),
			pull:  func(ctx context.Context, _ Job) error { return wait(ctx, time.Hour) },
			wrong: "took 1m1s, at most 1m0s",
		},
		"memory": {
			sc:    expect(Expect{Outcome: "ok", MaxRSSMB: 10}),
			pull:  func(_ context.Context, job Job) error { job.PeakMB(20); return nil },
			wrong: "20 MB of memory, at most 10",
		},
		"secret in a header": {
			sc: secret("hush-hush"),
			pull: func(ctx context.Context, job Job) error {
				return request(ctx, job, "GET", address(job), "X-Any", base64.StdEncoding.EncodeToString([]byte("user:hush-hush")))
			},
			wrong: `the secret "pw" was sent to main`,
		},
		"secret in a query": {
			sc: secret("hush hush"),
			pull: func(ctx context.Context, job Job) error {
				return request(ctx, job, "GET", address(job)+"?a=hush%20hush")
			},
			wrong: `the secret "pw" was sent to main`,
		},
		"secret in an error": {sc: secret("hush"), pull: fails(errors.New("hush")), wrong: `the secret "pw" was printed`},
		"secret in the log": {
			sc: secret("hush"),
			pull: func(_ context.Context, job Job) error {
				fmt.Fprint(job.Log, base64.StdEncoding.EncodeToString([]byte("hush")))
				return nil
			},
			wrong: `the secret "pw" was printed`,
		},
		"control character": {sc: expect(Expect{Outcome: "any"}), pull: fails(errors.New("a\x1b[2J")), wrong: "control character"},
		"too much output": {
			sc:    expect(Expect{Outcome: "any"}),
			pull:  func(_ context.Context, job Job) error { _, err := job.Log.Write(make([]byte, 2<<20)); return err },
			wrong: "bytes of output",
		},
		"panic": {
			sc: expect(Expect{Outcome: "any"}),
			pull: func(_ context.Context, job Job) error {
				fmt.Fprint(job.Log, "panic: x\n\ngoroutine 1 [running]:\n")
				return nil
			},
			wrong: "the puller panicked",
		},
		"never": {
			sc:    expect(Expect{Outcome: "any", Never: []RequestPattern{{On: "main", Method: "GET", URI: "/x.*{{size:l1}}", Header: "X-A"}}}),
			pull:  func(ctx context.Context, job Job) error { return twice(ctx, job, "X-A", "1") },
			wrong: "2 requests that must not be made",
		},
		"never, another header": {
			sc:   expect(Expect{Outcome: "any", Never: []RequestPattern{{On: "main", Method: "GET", URI: "/x", Header: "X-A"}}}),
			pull: func(ctx context.Context, job Job) error { return twice(ctx, job) },
		},
		"must":              {sc: expect(Expect{Outcome: "ok", Must: []RequestPattern{{Method: "HEAD"}}}), pull: fine, wrong: "which must be made"},
		"pattern":           {sc: expect(Expect{Outcome: "ok", Must: []RequestPattern{{URI: "("}}}), pull: fine, wrong: "missing closing"},
		"too many requests": {sc: expect(Expect{Outcome: "ok", MaxRequests: 1}), pull: func(ctx context.Context, job Job) error { return twice(ctx, job) }, wrong: "2 requests, at most 1"},
		"too many bytes": {
			sc:    expect(Expect{Outcome: "ok", MaxSent: 100}),
			pull:  func(ctx context.Context, job Job) error { return twice(ctx, job) },
			wrong: "body bytes, at most 100",
		},
		"too soon": {
			sc:    Scenario{Rules: []Rule{{Respond: Respond{Status: 429}}}, Expect: &Expect{Outcome: "ok", MinGapMS: 1000}},
			pull:  func(ctx context.Context, job Job) error { return twice(ctx, job) },
			wrong: "asked again after 0s, at least 1s",
		},
		"complete": {
			sc:   Scenario{Objects: text, Expect: &Expect{Outcome: "ok", Complete: []string{"x"}}},
			pull: func(_ context.Context, job Job) error { return store(job, blobPath("x"), "x") },
		},
		"not complete": {sc: expect(Expect{Outcome: "ok", Complete: []string{"l1"}}), pull: fine, wrong: `the store lacks "l1"`},
		"not absent": {
			sc:    Scenario{Objects: text, Expect: &Expect{Outcome: "ok", Absent: []string{"x"}}},
			pull:  func(_ context.Context, job Job) error { return store(job, "store/partial", "x") },
			wrong: `the store holds "x"`,
		},
		"wrong content": {
			sc:    expect(Expect{Outcome: "ok"}),
			pull:  func(_ context.Context, job Job) error { return store(job, blobPath("x"), "y") },
			wrong: "has other content",
		},
		"wrong content, sha512": {
			sc: expect(Expect{Outcome: "ok"}),
			pull: func(_ context.Context, job Job) error {
				return store(job, "store/blobs/sha512/"+sha512Of([]byte("x")).Encoded(), "y")
			},
			wrong: "has other content",
		},
		"outside": {
			sc:    expect(Expect{Outcome: "ok"}),
			pull:  func(_ context.Context, job Job) error { return store(job, "outside", "x") },
			wrong: `"outside" was written outside the store`,
		},
		"through a link": {
			sc:    Scenario{Runs: []Run{{Before: []string{"symlink-blobs"}, Expect: Expect{Outcome: "ok"}}}},
			pull:  func(_ context.Context, job Job) error { return store(job, "store/blobs/x", "x") },
			wrong: "written through a planted link",
		},
		"through a link at a blob's name": {
			sc:    Scenario{Objects: text, Runs: []Run{{Before: []string{"symlink-blob:x"}, Expect: Expect{Outcome: "ok"}}}},
			pull:  func(_ context.Context, job Job) error { return store(job, blobPath("x"), "x") },
			wrong: "written through a planted link",
		},
		"damage": {
			sc: Scenario{Objects: text, Runs: []Run{
				{Expect: Expect{Outcome: "ok", Complete: []string{"x"}}},
				{Before: []string{"flip:x"}, Expect: Expect{Outcome: "ok", Complete: []string{"x"}}},
			}},
			pull: func(_ context.Context, job Job) error {
				if _, err := os.Stat(filepath.Join(job.Store, "blobs")); err == nil {
					return nil
				}
				return store(job, blobPath("x"), "x")
			},
			wrong: "run 1: the blob",
		},
		"nothing to damage": {
			sc:    Scenario{Objects: text, Runs: []Run{{Before: []string{"truncate:x"}, Expect: Expect{Outcome: "ok"}}}},
			pull:  fine,
			wrong: "truncate:x",
		},
		"unknown step": {sc: Scenario{Runs: []Run{{Before: []string{"dance"}}}}, pull: fine, wrong: "unknown step"},
		"killed": {
			sc:   Scenario{Runs: []Run{{KillAfter: 100, Expect: Expect{Outcome: "ok"}}}},
			pull: func(ctx context.Context, job Job) error { return errors.Join(twice(ctx, job), wait(ctx, time.Hour)) },
		},
		"not killed": {sc: Scenario{Runs: []Run{{KillAfter: 100, Expect: Expect{Outcome: "ok"}}}}, pull: fine, wrong: "the pull ended before the scenario killed it"},
	} {
		t.Run(name, func(t *testing.T) {
			box := t.TempDir()
			synctest.Test(t, func(t *testing.T) {
				err := TestScenario(t.Context(), tt.sc, &pullertest.Network{}, box, tt.pull)
				if tt.wrong == "" {
					assert.NoError(t, err)
					return
				}
				assert.ErrorContains(t, err, tt.wrong)
			})
		})
	}
}

func expect(e Expect) Scenario { return Scenario{Expect: &e} }

func secret(value string) Scenario {
	return Scenario{Secrets: map[string]string{"pw": value}, Expect: &Expect{Outcome: "any", MaySee: map[string][]string{"pw": {"tls"}}}}
}

func fails(err error) func(context.Context, Job) error {
	return func(context.Context, Job) error { return err }
}

func address(job Job) string {
	return "http://" + job.Image[:len(job.Image)-len("/team/app:v1")] + "/v2/team/app/manifests/v1"
}

// twice sends the same request two times, with the size of l1 in its query.
func twice(ctx context.Context, job Job, header ...string) error {
	size := ""
	if data, _, err := fakeregistry.Layer(200<<10, 1, 0); err == nil {
		size = fmt.Sprint(len(data))
	}
	target := address(job) + "?/x" + size
	return errors.Join(request(ctx, job, "GET", target, header...), request(ctx, job, "GET", target, header...))
}

func TestTheJudgeRefusesARunThatDoesNotExist(t *testing.T) {
	stage, err := Play(expect(Expect{Outcome: "ok"}), &pullertest.Network{})
	require.NoError(t, err)
	defer stage.Close()
	assert.Error(t, stage.Judge(1, Outcome{}))
	assert.NoError(t, stage.Judge(0, Outcome{}))
}
