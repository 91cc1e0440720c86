package scripted_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"

	"github.com/pullkit/pullkit/internal/scripted"
	"github.com/pullkit/pullkit/puller/content"
	"github.com/pullkit/pullkit/puller/pullertest"
)

// get plays a scenario and prints the answer to a GET of a path.
func get(sc scripted.Scenario, path string, header ...string) {
	var network pullertest.Network
	stage, err := scripted.Play(sc, &network)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer stage.Close()
	req, err := http.NewRequest("GET", stage.Fill("http://{{main}}"+path), nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], stage.Fill(header[i+1]))
	}
	transport := &http.Transport{DialContext: network.DialContext}
	defer transport.CloseIdleConnections()
	resp, err := transport.RoundTrip(req)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	fmt.Printf("%d %.40q %v\n", resp.StatusCode, body, err)
}

func ExampleObject() {
	get(scripted.Scenario{
		Objects: []scripted.Object{
			{ID: "greeting", Gen: "text", Text: "hello"},
			{ID: "note", Gen: "text", Text: "{{size:greeting}} bytes", MediaType: "text/plain"},
		},
		Tags: map[string]string{"v1": "note"},
	}, "/v2/team/app/manifests/v1")
	// Output: 200 "5 bytes" <nil>
}

func ExampleIndexEntry() {
	get(scripted.Scenario{
		Objects: []scripted.Object{{ID: "i", Gen: "index", Of: []scripted.IndexEntry{{ID: "gone", Platform: "linux/arm/v7"}}}},
		Tags:    map[string]string{"v1": "i"},
	}, "/v2/team/app/manifests/v1")
	// Output: 200 "{\"manifests\":[{\"digest\":\"gone\",\"mediaTyp" <nil>
}

func ExampleRule() {
	sc := scripted.Scenario{Rules: []scripted.Rule{{
		Match:   scripted.Match{Path: "/v2/.*"},
		Respond: scripted.Respond{Status: 503, Body: "busy"},
	}}}
	get(sc, "/v2/")
	// Output: 503 "busy" <nil>
}

func ExampleMatch() {
	sc := scripted.Scenario{Rules: []scripted.Rule{{
		Match:   scripted.Match{Method: "GET|HEAD", Header: map[string]string{"Range": "bytes=5-"}},
		Respond: scripted.Respond{Status: 416},
	}}}
	get(sc, "/v2/")
	get(sc, "/v2/", "Range", "bytes=5-")
	// Output:
	// 200 "{}" <nil>
	// 416 "" <nil>
}

func ExampleRespond() {
	after := int64(3)
	get(scripted.Scenario{Rules: []scripted.Rule{{
		Respond: scripted.Respond{Body: "0123456789", CutAfter: &after, CutHow: "fin"},
	}}}, "/")
	// Output: 200 "012" unexpected EOF
}

func ExampleAuth() {
	sc := scripted.Scenario{Auth: &scripted.Auth{Mode: "bearer", User: "robot", Pass: "secret", Token: "t"}}
	get(sc, "/token", "Authorization", "Basic {{basic:robot:secret}}")
	get(sc, "/v2/", "Authorization", "Bearer t")
	// Output:
	// 200 "{\"access_token\":\"t\",\"expires_in\":300,\"to" <nil>
	// 200 "{}" <nil>
}

// judge prints the judgement of a run that made no request and ended with err.
func judge(expect scripted.Expect, err error) {
	stage, playErr := scripted.Play(scripted.Scenario{Name: "x", Expect: &expect}, &pullertest.Network{})
	if playErr != nil {
		fmt.Println(playErr)
		return
	}
	defer stage.Close()
	fmt.Println(stage.Judge(0, scripted.Outcome{Err: err}))
}

func ExampleExpect() {
	judge(scripted.Expect{Outcome: "fail", Kind: "not_found"}, content.ErrNotFound)
	judge(scripted.Expect{Outcome: "fail", Kind: "not_found"}, content.ErrTLS)
	// Output:
	// <nil>
	// scenario "x", run 0: error of the kind "TLS failure", expected "not_found": TLS failure
}

func ExampleRequestPattern() {
	judge(scripted.Expect{Outcome: "ok", Must: []scripted.RequestPattern{{Method: "HEAD", URI: "/manifests/"}}}, nil)
	// Output: scenario "x", run 0: no request is like this one, which must be made: {On: Method:HEAD URI:/manifests/ Header:}
}

func ExampleOutcome() {
	out := scripted.Outcome{Err: errors.New("cut"), Killed: true}
	stage, err := scripted.Play(scripted.Scenario{Expect: &scripted.Expect{Outcome: "ok"}}, &pullertest.Network{})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer stage.Close()
	fmt.Println(stage.Judge(0, out))
	// Output: <nil>
}

func ExampleRun() {
	sc := scripted.Scenario{Name: "resume", Runs: []scripted.Run{
		{KillAfter: 1 << 20, Expect: scripted.Expect{Outcome: "any"}},
		{Expect: scripted.Expect{Outcome: "ok", Complete: []string{"l1"}}},
	}}
	fmt.Println(len(sc.Runs), sc.Runs[0].KillAfter)
	// Output: 2 1048576
}

func ExampleAuthEntry() {
	entry := scripted.AuthEntry{Key: "{{main}}/team", Username: "robot", Password: "secret"}
	fmt.Println(entry.Key)
	// Output: {{main}}/team
}

func ExampleRequest() {
	var network pullertest.Network
	stage, err := scripted.Play(scripted.Scenario{Secrets: map[string]string{"token": "s3cr3t"}}, &network)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer stage.Close()
	client := http.Client{Transport: &http.Transport{DialContext: network.DialContext, DisableKeepAlives: true}}
	resp, err := client.Get(stage.Fill("http://{{main}}/v2/?token=s3cr3t"))
	if err != nil {
		fmt.Println(err)
		return
	}
	_ = resp.Body.Close()
	for _, r := range stage.Log() {
		fmt.Println(r.Listener, r.Method, r.URI, r.Status, r.Secrets, r.Rule)
	}
	// Output: main GET /v2/?token=s3cr3t 200 [token] -1
}

// A puller that fails at once does not meet the expectation of a success.
func ExampleTestScenario() {
	box, err := os.MkdirTemp("", "")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(box)
	sc := scripted.Scenario{Name: "well", Expect: &scripted.Expect{Outcome: "ok"}}
	err = scripted.TestScenario(context.Background(), sc, &pullertest.Network{}, box, func(context.Context, scripted.Job) error {
		return errors.New("not today")
	})
	fmt.Println(err)
	// Output: scenario "well", run 0: failed, success expected: not today
}

func ExampleJob() {
	pull := func(ctx context.Context, job scripted.Job) error {
		fmt.Fprintln(job.Log, "pulling", job.Image, "for", job.Platform, "into", job.Store)
		return ctx.Err()
	}
	job := scripted.Job{Image: "127.0.0.1:5000/team/app:v1", Platform: "linux/amd64", Store: "box/store", Log: os.Stdout}
	fmt.Println(pull(context.Background(), job))
	// Output:
	// pulling 127.0.0.1:5000/team/app:v1 for linux/amd64 into box/store
	// <nil>
}

func ExampleParse() {
	scenarios, err := scripted.Parse([]byte(`[{
		"name": "server error", "about": "every answer is 500", "class": "fault",
		"rules": [{"match": {}, "respond": {"status": 500}}],
		"expect": {"outcome": "fail", "kind": "unavailable", "max_requests": 40}
	}]`))
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(scenarios[0].Name, scenarios[0].Rules[0].Respond.Status)
	// Output: server error 500
}

func ExamplePlay() {
	stage, err := scripted.Play(scripted.Scenario{
		Rules: []scripted.Rule{{
			Match:   scripted.Match{Method: "GET", Path: "/v2/[^?]*/manifests/.*"},
			Respond: scripted.Respond{Status: 429, Headers: map[string]string{"Retry-After": "2"}},
			Times:   1,
		}},
	}, nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer stage.Close()
	for range 2 {
		resp, err := http.Get(stage.Fill("http://{{main}}/v2/team/app/manifests/v1"))
		if err != nil {
			fmt.Println(err)
			return
		}
		_ = resp.Body.Close()
		fmt.Println(resp.StatusCode, resp.Header.Get("Retry-After"))
	}
	// Output:
	// 429 2
	// 200
}

func ExampleStage() {
	stage, err := scripted.Play(scripted.Scenario{
		Image:       "{{main}}/team/app@{{digest:m}}",
		Credentials: []scripted.AuthEntry{{Key: "registry.example", Username: "robot", Password: "secret"}},
	}, &pullertest.Network{})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer stage.Close()
	config, err := stage.ConfigJSON()
	fmt.Println(string(config), err)
	fmt.Println(stage.Image() == stage.Fill("{{main}}/team/app@sha256:{{hex:m}}"), stage.Platform(), len(stage.Log()))
	// Output:
	// {
	//   "auths": {
	//     "registry.example": {
	//       "auth": "cm9ib3Q6c2VjcmV0"
	//     }
	//   }
	// } <nil>
	// true linux/amd64 0
}

func ExampleStage_Judge() {
	stage, err := scripted.Play(scripted.Scenario{
		Name:    "secret",
		Secrets: map[string]string{"pw": "hunter2"},
		Expect:  &scripted.Expect{Outcome: "any"},
	}, &pullertest.Network{})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer stage.Close()
	fmt.Println(stage.Judge(0, scripted.Outcome{Err: errors.New("wrong password hunter2")}))
	// Output: scenario "secret", run 0: the secret "pw" was printed
}
