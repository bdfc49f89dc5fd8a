// Gin, as its example of server-sent events has it: a goroutine and a channel for each client, `c.Stream` and
// `c.SSEvent`.

package main

import (
	"io"
	"sync"

	"github.com/gin-gonic/gin"
)

var lock sync.RWMutex
var topics = map[string]map[chan string]bool{}

func join(topic string, client chan string) {
	lock.Lock()
	defer lock.Unlock()
	if topics[topic] == nil {
		topics[topic] = map[chan string]bool{}
	}
	topics[topic][client] = true
}

// What is under way to one who leaves is taken and thrown away, or the publisher would wait for it.
func leave(topic string, client chan string) {
	go func() {
		for range client {
		}
	}()
	lock.Lock()
	defer lock.Unlock()
	delete(topics[topic], client)
	close(client)
}

func events(c *gin.Context) {
	topic, client := c.Query("topic"), make(chan string)
	join(topic, client)
	defer leave(topic, client)
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
	lock.RLock()
	defer lock.RUnlock()
	for _, text := range texts {
		for client := range topics[topic] {
			client <- text
		}
	}
}
