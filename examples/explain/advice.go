package main

import (
	"fmt"
	"net/http"

	"github.com/pullkit/pullkit/puller"
)

// advice returns what a decision means for the user. It uses only the decision's fields.
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
			return fmt.Sprintf("No credential is for this image. It is not %s: %s.", c.From, c.Why)
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

// accessAdvice is advice about an image that is present and has been looked up in records.
func accessAdvice(d puller.Decision) string {
	text := fmt.Sprintf("The Pod may use the image: %s.", d.StoreWhy)
	if d.Store == puller.StoreNotYours {
		text = fmt.Sprintf("The Pod may not use the image: %s.", d.StoreWhy)
		switch {
		case d.Action == puller.ActionPull:
			text += nextQuestion(d)
		case d.Action == puller.ActionFail:
			text += fmt.Sprintf(" The container gets %s, because the policy %s forbids the question to the registry.", d.Reason, d.Policy)
		}
	}
	if d.Access.ID == unknownID {
		text += " No record names the image; if it is present, give its ID with -id, because another name may have a record."
	}
	return text
}

// nextQuestion says how the kubelet asks the registry.
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

func sourceName(from string) string {
	if from == "" {
		return "the anonymous try"
	}
	return from
}
