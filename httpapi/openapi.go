package httpapi

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/posta-tasks/posta/task"
)

// schemas are the shapes of bodies, by the names that the table of routes uses.
//
//go:embed schemas.json
var schemas string

type object = map[string]any

// openAPI answers with the OpenAPI 3.1 document of the table.
//
//	→ GET /openapi.json
//	← 200 {"openapi":"3.1.0",…}
func (s *Server) openAPI(w http.ResponseWriter, _ *http.Request) *task.Error {
	s.write(w, http.StatusOK, jsonType, s.description)
	return nil
}

// describe returns the document.
func describe(version string) ([]byte, error) {
	paths := map[string]object{}
	for _, r := range table() {
		path := strings.TrimSuffix(r.path, "{$}")
		if paths[path] == nil {
			paths[path] = object{}
		}
		paths[path][strings.ToLower(r.method)] = r.operation()
	}
	var shapes object
	if err := json.Unmarshal([]byte(schemas), &shapes); err != nil {
		return nil, fmt.Errorf("httpapi: schemas.json: %w", err)
	}
	text, err := json.MarshalIndent(object{
		"openapi": "3.1.0",
		"info": object{
			"title": "Posta", "version": version,
			"description": "Tasks over HTTP. Bodies are read as lines of the line protocol are: strictly, and what is unknown is refused by name.",
		},
		"paths": paths,
		"components": object{
			"schemas":         shapes,
			"securitySchemes": object{"token": object{"type": "http", "scheme": "bearer", "description": "where the node was started with --token-file"}},
		},
	}, "", "  ")
	return append(text, '\n'), err
}

// operation returns the description of a route.
func (e *route) operation() object {
	responses := object{"default": object{
		"description": "a refusal, with its code",
		"content":     object{"application/problem+json": object{"schema": reference("Problem")}},
	}}
	for _, a := range e.answers {
		responses[fmt.Sprint(a.status)] = a.response()
	}
	o := object{"operationId": e.operationID(), "summary": e.about, "responses": responses, "security": []object{{}, {"token": []string{}}}}
	if e.health || e.access == everybody {
		o["security"] = []object{}
	}
	if p := e.describeParameters(); len(p) > 0 {
		o["parameters"] = p
	}
	if e.body != "" {
		content := object{}
		for _, kind := range e.takes {
			content[kind] = object{"schema": reference(e.body)}
		}
		o["requestBody"] = object{"required": true, "content": content}
	}
	return o
}

func (a reply) response() object {
	response := object{"description": a.what}
	switch {
	case a.schema != "":
		response["content"] = object{a.kind: object{"schema": reference(a.schema)}}
	case a.kind != "":
		response["content"] = object{a.kind: object{"schema": object{"type": "string"}}}
	}
	return response
}

// operationID returns the id of a route: get_v1_tasks_task.
func (e *route) operationID() string {
	words := strings.FieldsFunc(e.path, func(c rune) bool { return strings.ContainsRune("/{}$.", c) })
	return strings.Join(slices.Insert(words, 0, strings.ToLower(e.method)), "_")
}

func (e *route) describeParameters() []object {
	var list []object
	for part := range strings.SplitSeq(e.path, "/") {
		if name, isParameter := strings.CutPrefix(part, "{"); isParameter && name != "$}" {
			list = append(list, object{"name": strings.TrimSuffix(name, "}"), "in": "path", "required": true, "schema": object{"type": "string"}})
		}
	}
	for _, p := range e.query {
		list = append(list, object{"name": p.name, "in": "query", "description": p.about, "schema": object{"type": p.kind}})
	}
	if e.body == "Enqueue" {
		list = append(list, object{"name": "Idempotency-Key", "in": "header", "description": "the key of the body, or in its place", "schema": object{"type": "string"}})
	}
	return list
}

func reference(name string) object { return object{"$ref": "#/components/schemas/" + name} }
