// Gin, as its example of server-sent events has it: a goroutine and a channel for each client, `c.Stream` and
// `c.SSEvent`.

package main

import (
	"io"

	"github.com/gin-gonic/gin"
)

func events(c *gin.Context) {
	all, client := clientsOf(c.Query("topic")), make(chan string)
	all.add(client)
	defer all.remove(client)
	c.Header("Content-Type", "text/event-stream")
	c.Header("Cache-Control", "no-cache")
	c.Writer.Flush()
	gone := c.Request.Context().Done()
	c.Stream(func(w io.Writer) bool {
		select {
		case text := <-client:
			c.SSEvent("message", text)
			return true
		case <-gone:
			return false
		}
	})
}

func publish(topic string, texts []string) {
	clientsOf(topic).send(texts)
}
