package pullertest_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"

	"github.com/pullkit/pullkit/credentials"
	"github.com/pullkit/pullkit/puller"
	"github.com/pullkit/pullkit/puller/content"
	"github.com/pullkit/pullkit/puller/pullertest"
	"github.com/pullkit/pullkit/puller/registry"
	"github.com/pullkit/pullkit/puller/transfer"
)

var anonymous credentials.Credential

func ExampleTestSource() {
	var network pullertest.Network
	err := pullertest.TestSource(&network, func(host string) (content.Source, error) {
		return &registry.Client{PlainHTTP: []string{host}, DialContext: network.DialContext}, nil
	})
	fmt.Println(err)
	// Output: <nil>
}

func ExampleTestRuntime() {
	var network pullertest.Network
	err := pullertest.TestRuntime(&network, func(host string) (puller.Runtime, error) {
		client := &registry.Client{PlainHTTP: []string{host}, DialContext: network.DialContext}
		return transfer.New(transfer.Config{Source: client, Store: &pullertest.MemStore{}}), nil
	})
	fmt.Println(err)
	// Output: <nil>
}

// A puller that gives up at once fails what wants a success.
func ExampleTestScenario() {
	box, err := os.MkdirTemp("", "")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(box)
	sc := pullertest.Scenario{Name: "well", Expect: &pullertest.Expect{Outcome: "ok"}}
	err = pullertest.TestScenario(context.Background(), sc, &pullertest.Network{}, box, func(context.Context, pullertest.Job) error {
		return errors.New("not today")
	})
	fmt.Println(err)
	// Output: scenario "well", run 0: failed, success expected: not today
}

func ExampleJob() {
	pull := func(ctx context.Context, job pullertest.Job) error {
		fmt.Fprintln(job.Log, "pulling", job.Image, "for", job.Platform, "into", job.Store)
		return ctx.Err()
	}
	job := pullertest.Job{Image: "127.0.0.1:5000/team/app:v1", Platform: "linux/amd64", Store: "box/store", Log: os.Stdout}
	fmt.Println(pull(context.Background(), job))
	// Output:
	// pulling 127.0.0.1:5000/team/app:v1 for linux/amd64 into box/store
	// <nil>
}

func ExampleParseScenarios() {
	scenarios, err := pullertest.ParseScenarios([]byte(`[{
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
	stage, err := pullertest.Play(pullertest.Scenario{
		Rules: []pullertest.Rule{{
			Match:   pullertest.Match{Method: "GET", Path: "/v2/[^?]*/manifests/.*"},
			Respond: pullertest.Respond{Status: 429, Headers: map[string]string{"Retry-After": "2"}},
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
	stage, err := pullertest.Play(pullertest.Scenario{
		Image:       "{{main}}/team/app@{{digest:m}}",
		Credentials: []pullertest.AuthEntry{{Key: "registry.example", Username: "robot", Password: "secret"}},
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
	stage, err := pullertest.Play(pullertest.Scenario{
		Name:    "secret",
		Secrets: map[string]string{"pw": "hunter2"},
		Expect:  &pullertest.Expect{Outcome: "any"},
	}, &pullertest.Network{})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer stage.Close()
	fmt.Println(stage.Judge(0, pullertest.Outcome{Err: errors.New("wrong password hunter2")}))
	// Output: scenario "secret", run 0: the secret "pw" was printed
}
