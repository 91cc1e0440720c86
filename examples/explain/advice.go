package main

import (
	"fmt"
	"net/http"

	"github.com/pullkit/pullkit/puller"
)

// advice returns what a decision means for the user, and what the user can do. It uses only
// the decision's fields.
func advice(d puller.Decision) string {
	if d.Access != nil {
		return accessAdvice(d)
	}
	switch d.Action {
	case puller.ActionUse:
		return "Nothing is wrong: the image is on the node."
	case puller.ActionWait:
		return fmt.Sprintf("The registry is not asked for another %.0f s. Find the cause of the previous failure; a repaired secret is tried at once.", d.BackOff.Wait.Seconds())
	case puller.ActionFail:
		return fmt.Sprintf("%s: the image is %s, and under the policy %s the registry is not asked.", d.Reason, d.Store, d.Policy)
	}
	if d.Store == puller.StoreNotAsked && len(d.Attempts) == 0 {
		return "The records do not count: under the policy Always the registry decides." + nextQuestion(d)
	}
	for _, a := range d.Attempts {
		if a.Error == "" {
			return "A pull would succeed now, with " + sourceName(a.From) + "."
		}
	}
	if tried(d) == 0 {
		for _, c := range d.Candidates {
			return fmt.Sprintf("No credential matches this image. Not tried: %s (%s).", c.From, c.Why)
		}
		return "There is no credential."
	}
	for _, a := range d.Attempts {
		if a.Status == http.StatusUnauthorized {
			return "The registry does not accept " + sourceName(a.From) + "."
		}
	}
	return "All credentials failed; see the attempts."
}

// accessAdvice returns the advice for an image that was looked up in the records.
func accessAdvice(d puller.Decision) string {
	text := fmt.Sprintf("The Pod may use the image: %s.", d.StoreWhy)
	if d.Store == puller.StoreNotYours {
		text = fmt.Sprintf("The Pod may not use the image: %s.", d.StoreWhy)
		switch {
		case d.Action == puller.ActionPull:
			text += nextQuestion(d)
		case d.Action == puller.ActionFail:
			text += fmt.Sprintf(" The container gets %s, because under the policy %s the registry is not asked.", d.Reason, d.Policy)
		}
	}
	if d.Access.ID == unknownID {
		text += " No record names the image; if it is present, give its ID with -id, because it may have a record under another name."
	}
	return text
}

// nextQuestion returns a sentence about the credentials with which the kubelet asks the
// registry.
func nextQuestion(d puller.Decision) string {
	switch n := tried(d); n {
	case 0:
		return " The kubelet asks the registry, anonymously, because the Pod has no credential for the image."
	case 1:
		return " The kubelet asks the registry with the credential above."
	default:
		return fmt.Sprintf(" The kubelet asks the registry with the %d credentials above.", n)
	}
}

// tried counts the candidates that a pull would try.
func tried(d puller.Decision) (n int) {
	for _, c := range d.Candidates {
		if c.Order > 0 {
			n++
		}
	}
	return n
}

// sourceName returns the source of a credential in words.
func sourceName(from string) string {
	if from == "" {
		return "an anonymous request"
	}
	return from
}
