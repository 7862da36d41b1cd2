package actions

import "context"

// echo returns the bytes of the payload, so that nothing is rounded or spelled
// differently:
//
//	"hola" → {"ok":true,"data":"hola"}
func echo() Action {
	return Action{Name: "echo", Append: appendEcho, Quick: true}
}

func appendEcho(_ context.Context, call *Call, dst []byte) ([]byte, error) {
	dst = append(dst, `"data":`...)
	return append(dst, call.Payload...), nil
}
