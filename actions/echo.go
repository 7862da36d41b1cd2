package actions

import "context"

// echo answers with the payload's own bytes, so that nothing is rounded or
// respelled on the way:
//
//	"hola" → {"ok":true,"data":"hola"}
func echo() Action {
	return Action{Name: "echo", Append: appendEcho, Quick: true}
}

func appendEcho(_ context.Context, call *Call, dst []byte) ([]byte, error) {
	dst = append(dst, `"data":`...)
	return append(dst, call.Payload...), nil
}
