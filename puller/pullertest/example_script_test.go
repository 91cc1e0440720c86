package pullertest_test

import (
	"errors"
	"fmt"
	"io"
	"net/http"

	"github.com/pullkit/pullkit/puller/content"
	"github.com/pullkit/pullkit/puller/pullertest"
)

// get plays a scenario and prints what a GET of a path brings.
func get(sc pullertest.Scenario, path string, header ...string) {
	var network pullertest.Network
	stage, err := pullertest.Play(sc, &network)
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
	get(pullertest.Scenario{
		Objects: []pullertest.Object{
			{ID: "greeting", Gen: "text", Text: "hello"},
			{ID: "note", Gen: "text", Text: "{{size:greeting}} bytes", MediaType: "text/plain"},
		},
		Tags: map[string]string{"v1": "note"},
	}, "/v2/team/app/manifests/v1")
	// Output: 200 "5 bytes" <nil>
}

func ExampleIndexEntry() {
	get(pullertest.Scenario{
		Objects: []pullertest.Object{{ID: "i", Gen: "index", Of: []pullertest.IndexEntry{{ID: "gone", Platform: "linux/arm/v7"}}}},
		Tags:    map[string]string{"v1": "i"},
	}, "/v2/team/app/manifests/v1")
	// Output: 200 "{\"manifests\":[{\"digest\":\"gone\",\"mediaTyp" <nil>
}

func ExampleRule() {
	sc := pullertest.Scenario{Rules: []pullertest.Rule{{
		Match:   pullertest.Match{Path: "/v2/.*"},
		Respond: pullertest.Respond{Status: 503, Body: "busy"},
	}}}
	get(sc, "/v2/")
	// Output: 503 "busy" <nil>
}

func ExampleMatch() {
	sc := pullertest.Scenario{Rules: []pullertest.Rule{{
		Match:   pullertest.Match{Method: "GET|HEAD", Header: map[string]string{"Range": "bytes=5-"}},
		Respond: pullertest.Respond{Status: 416},
	}}}
	get(sc, "/v2/")
	get(sc, "/v2/", "Range", "bytes=5-")
	// Output:
	// 200 "{}" <nil>
	// 416 "" <nil>
}

func ExampleRespond() {
	after := int64(3)
	get(pullertest.Scenario{Rules: []pullertest.Rule{{
		Respond: pullertest.Respond{Body: "0123456789", CutAfter: &after, CutHow: "fin"},
	}}}, "/")
	// Output: 200 "012" unexpected EOF
}

func ExampleScenarioAuth() {
	sc := pullertest.Scenario{Auth: &pullertest.ScenarioAuth{Mode: "bearer", User: "robot", Pass: "secret", Token: "t"}}
	get(sc, "/token", "Authorization", "Basic {{basic:robot:secret}}")
	get(sc, "/v2/", "Authorization", "Bearer t")
	// Output:
	// 200 "{\"access_token\":\"t\",\"expires_in\":300,\"to" <nil>
	// 200 "{}" <nil>
}

// judge says what a run is that made no request and ended with err.
func judge(expect pullertest.Expect, err error) {
	stage, playErr := pullertest.Play(pullertest.Scenario{Name: "x", Expect: &expect}, &pullertest.Network{})
	if playErr != nil {
		fmt.Println(playErr)
		return
	}
	defer stage.Close()
	fmt.Println(stage.Judge(0, pullertest.Outcome{Err: err}))
}

func ExampleExpect() {
	judge(pullertest.Expect{Outcome: "fail", Kind: "not_found"}, content.ErrNotFound)
	judge(pullertest.Expect{Outcome: "fail", Kind: "not_found"}, content.ErrTLS)
	// Output:
	// <nil>
	// scenario "x", run 0: error of the kind "TLS failure", expected "not_found": TLS failure
}

func ExampleRequestPattern() {
	judge(pullertest.Expect{Outcome: "ok", Must: []pullertest.RequestPattern{{Method: "HEAD", URI: "/manifests/"}}}, nil)
	// Output: scenario "x", run 0: a request that must be made was not: {On: Method:HEAD URI:/manifests/ Header:}
}

func ExampleOutcome() {
	out := pullertest.Outcome{Err: errors.New("cut"), Killed: true}
	stage, err := pullertest.Play(pullertest.Scenario{Expect: &pullertest.Expect{Outcome: "ok"}}, &pullertest.Network{})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer stage.Close()
	fmt.Println(stage.Judge(0, out))
	// Output: <nil>
}

func ExampleScenarioRun() {
	sc := pullertest.Scenario{Name: "resume", Runs: []pullertest.ScenarioRun{
		{KillAfter: 1 << 20, Expect: pullertest.Expect{Outcome: "any"}},
		{Expect: pullertest.Expect{Outcome: "ok", Complete: []string{"l1"}}},
	}}
	fmt.Println(len(sc.Runs), sc.Runs[0].KillAfter)
	// Output: 2 1048576
}

func ExampleAuthEntry() {
	entry := pullertest.AuthEntry{Key: "{{main}}/team", Username: "robot", Password: "secret"}
	fmt.Println(entry.Key)
	// Output: {{main}}/team
}

func ExampleRequest() {
	var network pullertest.Network
	stage, err := pullertest.Play(pullertest.Scenario{Secrets: map[string]string{"token": "s3cr3t"}}, &network)
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
