package scripted_test

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pullkit/pullkit/internal/rounds"
	"github.com/pullkit/pullkit/internal/scripted"
	"github.com/pullkit/pullkit/puller/pullertest"
	"github.com/stretchr/testify/assert"
)

// randomFault returns an answer that is slow or wrong in some way.
func randomFault(r *rand.Rand, object string) scripted.Respond {
	off := r.Int64N(200 << 10)
	flip, length := r.Int64N(300), r.Int64N(1<<20)
	switch r.IntN(16) {
	case 0:
		return scripted.Respond{BodyOf: object, CutAfter: &off, Range: "honest"}
	case 1:
		return scripted.Respond{BodyOf: object, CutAfter: &off, CutHow: "fin", NoLength: true}
	case 2:
		return scripted.Respond{BodyOf: object, StallAt: &off, Range: "honest"}
	case 3:
		if object == "m" {
			break // the document may still be a manifest, and a pull by tag has no digest to compare
		}
		return scripted.Respond{BodyOf: object, FlipAt: &flip, Range: "honest"}
	case 4:
		return scripted.Respond{BodyOf: object, Length: &length}
	case 5:
		return scripted.Respond{BodyOf: object, Range: []string{"wrong-start", "wrong-data", "short", "beyond", "ignore"}[r.IntN(5)]}
	case 6:
		return scripted.Respond{Status: []int{400, 401, 403, 404, 408, 416, 429, 500, 502, 503}[r.IntN(10)]}
	case 7:
		return scripted.Respond{Status: 429, Headers: map[string]string{"Retry-After": fmt.Sprint(r.IntN(100))}}
	case 8:
		return scripted.Respond{Drop: true}
	case 9:
		return scripted.Respond{Raw: "220 smtp.example ESMTP\r\n"}
	case 10:
		return scripted.Respond{BodyOf: object, DelayMS: r.IntN(40_000)}
	case 11:
		return scripted.Respond{BodyOf: object, SlowBytes: 1 + r.IntN(1000), SlowMS: r.IntN(1000), Range: "honest"}
	case 12:
		return scripted.Respond{BodyOf: object, Gzip: true}
	case 13:
		return scripted.Respond{BodyOf: object, FillSize: 1 << 20, Chunked: true}
	case 14:
		return scripted.Respond{Status: 302, Headers: map[string]string{"Location": "http://{{second}}/gone"}}
	}
	return scripted.Respond{BodyOf: object, Chunked: true, SlowBytes: 4096}
}

// randomScenario returns a scenario of several runs. The registry answers wrongly a few
// times, in ways that depend on the seed, and then well. However the earlier pulls end, the
// last one must succeed.
func randomScenario(seed uint64) scripted.Scenario {
	r := rand.New(rand.NewPCG(seed, 0))
	sc := scripted.Scenario{Name: fmt.Sprint("seed ", seed)}
	if r.IntN(2) == 0 {
		sc.Secrets = map[string]string{"pw": "CANARY-pw", "tok": "CANARY-tok"}
		sc.Credentials = []scripted.AuthEntry{{Key: "{{main}}", Username: "robot", Password: "CANARY-pw"}}
		sc.Auth = &scripted.Auth{Mode: "bearer", User: "robot", Pass: "CANARY-pw", Token: "CANARY-tok"}
	}
	faults := 0
	for range 1 + r.IntN(6) {
		object := []string{"m", "l1", "l1", "l2", "cfg"}[r.IntN(5)]
		path := "/v2/[^?]*/blobs/{{digest:" + object + "}}"
		if object == "m" {
			path = "/v2/[^?]*/manifests/.*"
		}
		rule := scripted.Rule{Match: scripted.Match{Path: path}, Skip: r.IntN(3), Times: 1 + r.IntN(3), Respond: randomFault(r, object)}
		if r.IntN(8) == 0 {
			rule.Match.Path = "/token"
			rule.Respond.BodyOf = ""
		}
		faults += rule.Skip + rule.Times
		sc.Rules = append(sc.Rules, rule)
	}
	see := map[string][]string{"pw": {"main"}, "tok": {"main"}}
	for range faults {
		sc.Runs = append(sc.Runs, scripted.Run{
			Parallel: 1 + r.IntN(2),
			Expect:   scripted.Expect{Outcome: "any", WithinMS: 600_000, MaySee: see, MaxRequests: 400},
		})
	}
	sc.Runs = append(sc.Runs, scripted.Run{Expect: scripted.Expect{Outcome: "ok", Complete: []string{"m", "cfg", "l1", "l2"}, MaySee: see}})
	return sc
}

// FuzzFaults plays random scenarios. No pull hangs, leaks a secret or stores wrong content.
// The last pull, from a registry that behaves well again, succeeds.
func FuzzFaults(f *testing.F) {
	for seed := range uint64(rounds.Of(60)) {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, seed uint64) {
		box := t.TempDir()
		sc := randomScenario(seed)
		synctest.Test(t, func(t *testing.T) {
			if err := scripted.TestScenario(t.Context(), sc, &pullertest.Network{}, box, pull); err != nil {
				rules, _ := json.Marshal(sc.Rules)
				t.Errorf("%v\nrules: %s", err, rules)
			}
		})
	})
}

// The context of a pull ends after some number of bytes. The pull ends at once, and the
// next pull succeeds.
func TestAPullCanBeCancelledAtAnyByte(t *testing.T) {
	slow := scripted.Rule{
		Match:   scripted.Match{Path: "/v2/[^?]*/blobs/{{digest:l1}}"},
		Respond: scripted.Respond{BodyOf: "l1", Range: "honest", SlowBytes: 10_000, SlowMS: 100},
	}
	const size = 250_000
	step := size / int64(rounds.Of(26))
	for after := int64(1); after < size; after += step {
		box := t.TempDir()
		sc := scripted.Scenario{
			Name:  fmt.Sprint("cancelled after ", after),
			Rules: []scripted.Rule{slow},
			Runs: []scripted.Run{
				{KillAfter: after, Expect: scripted.Expect{Outcome: "any"}},
				{Expect: scripted.Expect{Outcome: "ok", Complete: []string{"m", "cfg", "l1", "l2"}}},
			},
		}
		synctest.Test(t, func(t *testing.T) {
			assert.NoError(t, scripted.TestScenario(t.Context(), sc, &pullertest.Network{}, box, func(ctx context.Context, job scripted.Job) error {
				cancelled := make(chan time.Time, 1)
				stop := context.AfterFunc(ctx, func() { cancelled <- time.Now() })
				err := pull(ctx, job)
				if !stop() {
					assert.ErrorIs(t, err, context.Canceled)
					assert.LessOrEqual(t, time.Since(<-cancelled), 100*time.Millisecond)
				}
				return err
			}))
		})
	}
}
