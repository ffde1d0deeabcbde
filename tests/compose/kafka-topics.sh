#!/bin/bash
# Replaces the script of this name in Apache's image.
exec "$JAVA_HOME/bin/java" -Xmx200m -cp '/jars/*' org.apache.kafka.tools.TopicCommand "$@"
