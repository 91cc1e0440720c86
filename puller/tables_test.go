package puller

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pullkit/pullkit/credentials"
	"github.com/pullkit/pullkit/puller/records"
	"github.com/pullkit/pullkit/pullpolicy"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// Serial and parallel pulls start and end when the kubelet's do.
func TestPullsStartAndEndWhenTheKubeletsDo(t *testing.T) {
	type pull struct {
		ID       string
		Arrive   int64 `json:"arrive_ms"`
		Duration int64 `json:"duration_ms"`
		Start    int64 `json:"want_start_ms"`
		End      int64 `json:"want_end_ms"`
	}
	cases := vectors[struct {
		Name, Mode string
		Limit      int
		Pulls      []pull
	}](t, "concurrency.json")
	assert.Len(t, cases, 6)
	for _, c := range cases {
		t.Run(c.Name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				parallel := 0
				if c.Mode == "parallel" {
					parallel = c.Limit
					if parallel == 0 {
						parallel = -1
					}
				}
				w := newWorld(t, Config{Parallel: parallel})
				begin := time.Now()
				var mu sync.Mutex
				started, took := map[string]int64{}, map[string]int64{}
				for _, p := range c.Pulls {
					took["a.example/"+p.ID+":1"] = p.Duration
				}
				w.runtime.pull = func(_ context.Context, spec Spec) (string, error) {
					mu.Lock()
					started[spec.Written] = time.Since(begin).Milliseconds()
					mu.Unlock()
					time.Sleep(time.Duration(took[spec.Written]) * time.Millisecond)
					return "sha256:1", nil
				}
				var wg sync.WaitGroup
				for _, p := range c.Pulls {
					wg.Go(func() {
						time.Sleep(time.Duration(p.Arrive) * time.Millisecond)
						name := "a.example/" + p.ID + ":1"
						_, err := w.Pull(t.Context(), Request{Image: name})
						assert.NoError(t, err)
						mu.Lock()
						defer mu.Unlock()
						assert.Equal(t, p.Start, started[name], "%s starts", p.ID)
						assert.Equal(t, p.End, time.Since(begin).Milliseconds(), "%s ends", p.ID)
					})
				}
				wg.Wait()
			})
		})
	}
}

// The table has a row for each policy, presence and verification.
func TestPolicyPresenceAndAccessDecideAsInTheKubelet(t *testing.T) {
	cases := vectors[struct {
		Action       string
		Asks         bool `json:"asks_verification"`
		Inspects     bool
		Error        string
		Image        string
		Policy       string
		Present      string
		Verification string
	}](t, "ensure.json")
	assert.Len(t, cases, 63)
	for i, c := range cases {
		kubelet := Kubelet{FailOnBadSecret: true, PolicyAsWritten: true}
		config := Config{Kubelet: kubelet}
		runtime := &fakeRuntime{store: map[string]string{}}
		config.Runtime = runtime
		image := "priv.example/app:1"
		if c.Image != "" || c.Error == "InvalidImageName" {
			image = c.Image
		}
		switch c.Present {
		case "yes":
			runtime.store[image] = "sha256:1"
		case "error":
			runtime.inspectErr = errors.New("broken")
		}
		recs := &scriptedRecords{}
		ring := keyringOf(secret("mine", "m"))
		if c.Verification != "off" {
			config.Records = recs
			access := records.Access{Secrets: []records.SecretID{{Namespace: "other", Name: "other", UID: "other", Hash: records.NewSecretID(secret("x", "x")).Hash}}}
			switch c.Verification {
			case "allowed":
				access = records.Access{Everybody: true}
			case "error":
				ring.problem = errors.New("bad secret")
			}
			recs.record = &records.Record{ID: "sha256:1", Names: map[string]records.Access{"priv.example/app": access}}
		}
		w := newWorld(t, config)
		_, err := w.Pull(t.Context(), Request{Image: image, Policy: pullpolicy.Policy(c.Policy), Keyring: ring})

		name := fmt.Sprintf("row %d: %s, present %s, verification %s", i, c.Policy, c.Present, c.Verification)
		calls := runtime.took()
		assert.Equal(t, c.Inspects, countCalls(calls, "inspect") > 0, name)
		assert.Equal(t, c.Asks, recs.asked > 0, name)
		pulled := countCalls(calls, "pull") > 0
		switch c.Action {
		case "pull":
			if c.Verification == "error" { // the decision is to pull, and the pull fails because of the same secret
				assert.Empty(t, asError(t, err).Reason, name)
				continue
			}
			assert.True(t, pulled, name)
		case "use-local":
			assert.NoError(t, err, name)
			assert.False(t, pulled, name)
		case "fail":
			assert.False(t, pulled, name)
			reason := asError(t, err).Reason
			if c.Error == "the verification's own error" {
				assert.Empty(t, reason, name)
				continue
			}
			assert.Equal(t, Reason(c.Error), reason, name)
		default:
			t.Errorf("%s: unknown action %q", name, c.Action)
		}
	}
}

// countCalls counts the calls of a fakeRuntime that start with a word: inspect or pull.
func countCalls(calls []string, word string) (n int) {
	for _, call := range calls {
		if strings.HasPrefix(call, word+" ") {
			n++
		}
	}
	return n
}

type tableAccess struct {
	NodePodsAccessible bool
	Secrets            []tableSecret
	ServiceAccounts    []struct{ UID, Namespace, Name string }
}

type tableSecret struct{ UID, Namespace, Name, Hash string }

func (s tableSecret) credential() credentials.Credential {
	c := credentials.Credential{Username: "user", Password: credentials.Conceal(s.Hash)}
	if s.Hash == "" {
		c.Username = "" // a credential without content has no hash
	}
	c.Origin = credentials.Origin{Kind: credentials.KindSecret, Namespace: s.Namespace, Name: s.Name, UID: s.UID, Key: s.UID}
	return c
}

func (a tableAccess) access() records.Access {
	out := records.Access{Everybody: a.NodePodsAccessible}
	for _, s := range a.Secrets {
		out.Secrets = append(out.Secrets, records.SecretID{Namespace: s.Namespace, Name: s.Name, UID: s.UID, Hash: records.NewSecretID(s.credential()).Hash})
	}
	for _, s := range a.ServiceAccounts {
		out.ServiceAccounts = append(out.ServiceAccounts, credentials.ServiceAccount{Namespace: s.Namespace, Name: s.Name, UID: s.UID})
	}
	return out
}

// The table says which records let a Pod use a present image.
func TestRecordsDecideAsInTheKubelet(t *testing.T) {
	cases := vectors[struct {
		Case           string
		ImageRef       string `json:"image_ref"`
		RecordsError   bool   `json:"records_error"`
		PolicyRequires *bool  `json:"policy_requires"`
		Record         map[string]tableAccess
		Intent         bool
		Image          string
		PodError       bool                                   `json:"pod_credentials_error"`
		PodSecrets     []tableSecret                          `json:"pod_secrets"`
		PodAccountJSON *struct{ UID, Namespace, Name string } `json:"pod_service_account"`
		Want           string
	}](t, "must_attempt_pull.json")
	assert.Len(t, cases, 23)
	for _, c := range cases {
		image := c.Image
		if image == "" {
			image = "test.io/x:v1"
		}
		policy := pullpolicy.AlwaysVerify
		if c.PolicyRequires != nil && !*c.PolicyRequires {
			policy = pullpolicy.NeverVerify
		}
		verify, err := pullpolicy.NewVerification(policy)
		require.NoError(t, err)
		recs := &scriptedRecords{}
		if c.RecordsError {
			recs.err = errors.New("unreadable")
		}
		if c.Record != nil {
			recs.record = &records.Record{ID: c.ImageRef, Names: map[string]records.Access{}}
			for name, a := range c.Record {
				recs.record.Names[name] = a.access()
			}
		}
		if c.Intent {
			recs.intents = []string{image}
		}
		runtime := &fakeRuntime{store: map[string]string{}}
		if c.ImageRef != "" {
			runtime.store[image], runtime.store[image+":latest"] = c.ImageRef, c.ImageRef
		}
		ring := &fakeKeyring{}
		for _, s := range c.PodSecrets {
			ring.creds = append(ring.creds, s.credential())
		}
		if c.PodError {
			ring.problem = errors.New("bad secret")
		}
		req := Request{Image: image, Policy: pullpolicy.IfNotPresent, Keyring: ring}
		if a := c.PodAccountJSON; a != nil {
			req.Pod.ServiceAccount = credentials.ServiceAccount{Namespace: a.Namespace, Name: a.Name, UID: a.UID}
		}
		kubelet := Kubelet{NameAsWritten: true, FailOnBadSecret: true}
		w := newWorld(t, Config{Runtime: runtime, Records: recs, Verify: verify, Kubelet: kubelet})
		_, err = w.Pull(t.Context(), req)
		pulls := countCalls(runtime.took(), "pull")
		switch c.Want {
		case "pull":
			if asked := w.reasons(); len(asked) > 0 && asked[0] == EventInspectFailed {
				assert.Equal(t, "required, name cannot be parsed", c.Case, "a malformed name fails before the records are asked")
				continue
			}
			assert.Equal(t, 1, pulls, c.Case)
		case "use-local":
			assert.NoError(t, err, c.Case)
			assert.Zero(t, pulls, c.Case)
		case "error":
			assert.Zero(t, pulls, c.Case)
			assert.Empty(t, asError(t, err).Reason, c.Case)
		default:
			t.Errorf("%s: unknown want %q", c.Case, c.Want)
		}
	}
}
