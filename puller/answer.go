package puller

import (
	"errors"

	"github.com/pullkit/pullkit/credentials"
	"github.com/pullkit/pullkit/internal/redact"
)

// An Answer is what one attempt of a pull met with, as a value for people and
// machines. It holds no secret.
//
// Host, Status and Codes come from the Runtime's error: from the first one in its
// tree that has a method ServerHost() string, StatusCode() int and ErrorCodes()
// []string respectively, as those of packages content and registry do.
type Answer struct {
	Origin    credentials.Origin `json:"-"`
	From      string             `json:"from"`                // Origin, for people
	Kind      credentials.Kind   `json:"kind,omitempty"`      // of the origin
	Namespace string             `json:"namespace,omitempty"` // of the Secret
	Name      string             `json:"name,omitempty"`      // of the Secret, file or program
	Key       string             `json:"key,omitempty"`       // that matched
	// Source is set where there was no credential to try, since the source could
	// not answer.
	Source bool     `json:"source,omitempty"`
	Host   string   `json:"host,omitempty"`   // host[:port] that answered
	Status int      `json:"status,omitempty"` // of HTTP
	Codes  []string `json:"codes,omitempty"`  // the registry's own: UNAUTHORIZED, DENIED, ...
	Error  string   `json:"error,omitempty"`  // "" if the attempt succeeded
}

// Answers tells what each attempt met with, in order.
func (e *Error) Answers() []Answer {
	var out []Answer
	for _, a := range e.Attempts {
		out = append(out, newAnswer(a))
	}
	return out
}

func newAnswer(a credentials.Attempt) Answer {
	answer := Answer{
		Origin: a.Origin, From: a.Origin.String(), Kind: a.Origin.Kind,
		Namespace: a.Origin.Namespace, Name: a.Origin.Name, Key: a.Origin.Key,
		Source: a.Source,
	}
	if a.Err == nil {
		return answer
	}
	answer.Error = redact.Text(a.Err.Error())
	var host interface{ ServerHost() string }
	if errors.As(a.Err, &host) {
		answer.Host = redact.Text(host.ServerHost())
	}
	var status interface{ StatusCode() int }
	if errors.As(a.Err, &status) {
		answer.Status = status.StatusCode()
	}
	var codes interface{ ErrorCodes() []string }
	if errors.As(a.Err, &codes) {
		for _, c := range codes.ErrorCodes() {
			answer.Codes = append(answer.Codes, redact.Text(c))
		}
	}
	return answer
}
